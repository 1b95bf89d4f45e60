#!/bin/sh
# Starts the broker with the gateway's account brought up to date from the environment. The devices' accounts are kept in
# the same file, on the volume: README.md beside compose.yaml says how to add one.
set -eu
umask 077
config=${MOSQUITTO_CONFIG:-/mosquitto/config}
data=${MOSQUITTO_DATA:-/mosquitto/data}
: "${MQTT_PASSWORD:?the password of the gateway account}"

# Hashed through a file, not through an argument: arguments are visible in the list of processes.
printf 'headworks:%s\n' "$MQTT_PASSWORD" > "$data/passwords.gateway"
mosquitto_passwd -U "$data/passwords.gateway"
touch "$data/passwords"
{ grep -v '^headworks:' "$data/passwords" || true; cat "$data/passwords.gateway"; } > "$data/passwords.new"
mv "$data/passwords.new" "$data/passwords"
rm "$data/passwords.gateway"

# Copies of our own, as the broker wants such files to belong to it and to be readable by nobody else.
cp "$config/acl" "$config/acl.health" "$data/"

exec mosquitto -c "$config/mosquitto.conf"

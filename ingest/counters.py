"""What the gateways and the pipeline count, as Prometheus metrics. Nothing is dropped without one of these moving."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

UPLINKS = Counter("headworks_uplinks", "Uplinks by transport and verdict", ["transport", "verdict"])
READINGS = Counter("headworks_readings", "Readings by what became of them (stored, duplicate)", ["result"])
QUARANTINED = Counter("headworks_quarantined", "Quarantine records by reason", ["reason"])
QUARANTINE_DROPPED = Counter(
    "headworks_quarantine_dropped", "Quarantine records that were above a limit: counted in the database, not kept"
)
COMMIT_SECONDS = Histogram(
    "headworks_commit_seconds",
    "Time from handing a batch to the database until it was committed",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
BATCH_UPLINKS = Histogram("headworks_batch_uplinks", "Uplinks a commit", buckets=(1, 3, 10, 30, 100, 300, 1000))
QUEUE_UPLINKS = Gauge("headworks_queue_uplinks", "Uplinks waiting for a commit")
QUEUE_REFUSED = Counter(
    "headworks_queue_refused", "Uplinks refused as the queue was full or the database away", ["transport"]
)
SPOOLED = Counter("headworks_spooled", "Uplinks acknowledged from the spool while the database was away or slow")
SPOOL_DRAINED = Counter("headworks_spool_drained", "Uplinks taken from the spool into the database")
SPOOL_WAITING = Gauge("headworks_spool_waiting", "Uplinks that wait in the spool for the database")
STORE_AVAILABLE = Gauge("headworks_store_available", "1 while the last commit succeeded, else 0")
BROKER_CONNECTED = Gauge("headworks_broker_connected", "1 while the MQTT gateway is connected to its broker")
STALE_ACKS = Counter("headworks_stale_acknowledgements", "MQTT acknowledgements not sent as the connection had changed")
COAP_MALFORMED = Counter("headworks_coap_malformed", "Datagrams that are no CoAP messages")
COAP_TOO_MANY = Counter("headworks_coap_too_many", "Requests answered 4.29 as their sender is above its rate")
OSCORE_REFUSED = Counter("headworks_oscore_refused", "Protected requests whose protection was not accepted", ["why"])
DTLS_REFUSED = Counter("headworks_dtls_refused", "DTLS associations that ended with an alert")
SECURITY_EVENTS = Counter(
    "headworks_security_events",
    "Uplinks that claimed to be another device's, or did not prove to be their own",
    ["reason"],
)
MQTT_FOREIGN = Counter("headworks_mqtt_foreign", "Messages on topics that mean nothing here")
SPARKPLUG_ONLINE = Gauge("headworks_sparkplug_online", "Sparkplug edge nodes and devices that are born and not dead")
SPARKPLUG_WAITING = Gauge(
    "headworks_sparkplug_waiting", "Sparkplug messages that wait for a birth or an earlier message"
)
SPARKPLUG_REBIRTHS = Counter("headworks_sparkplug_rebirths", "Births that edge nodes were asked to say again")
SPARKPLUG_IGNORED = Counter("headworks_sparkplug_ignored", "Deaths of Sparkplug sessions that were over already")
MQTT_DOOR_CONNECTIONS = Gauge("headworks_mqtt_door_connections", "Devices connected to the MQTT door")
MQTT_DOOR_REFUSED = Counter("headworks_mqtt_door_refused", "Connections that the MQTT door has ended", ["reason"])
MQTT_DOOR_LOST = Counter(
    "headworks_mqtt_door_lost", "Messages with QoS 0 at the MQTT door that came while nothing could be stored"
)

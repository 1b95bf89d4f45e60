-- Devices of other platforms log in at the MQTT door with what they have: an access token, or a secret of Huawei IoTDA.

ALTER TABLE credential DROP CONSTRAINT credential_kind_check;
ALTER TABLE credential ADD CONSTRAINT credential_kind_check
    CHECK (kind IN ('oscore', 'psk', 'mqtt', 'token', 'iotda'));
COMMENT ON COLUMN credential.name IS 'What the device shows before it has proved anything: the OSCORE key identifier in hexadecimal, the PSK identity, the MQTT user, its IoTDA device id; of a token its SHA-256';

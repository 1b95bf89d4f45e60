-- The registry, the hypertable of readings, the uplink log, the latest values and the quarantine.
-- Runs on three editions: the functions headworks_hypertable() and time_bucket() come from 0000 of the edition at hand.

CREATE TABLE metric (
    metric_id   smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    unit        text NOT NULL,
    description text NOT NULL DEFAULT ''
);
COMMENT ON TABLE metric IS 'The metric catalogue; values are stored in the canonical unit named here.';

CREATE TABLE device (
    device_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    identity     text NOT NULL UNIQUE CHECK (identity <> ''),
    profile      text NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('pump', 'valve', 'meter')),
    tag          text NOT NULL DEFAULT '',
    site         text NOT NULL DEFAULT '',
    area         text NOT NULL DEFAULT '',
    unit         text NOT NULL DEFAULT '',
    manufacturer text NOT NULL DEFAULT '',
    model        text NOT NULL DEFAULT '',
    serial       text NOT NULL DEFAULT '',
    design       jsonb NOT NULL DEFAULT '{}',
    report_interval interval NOT NULL,
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'retired')),
    created_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN device.identity IS 'What the transport authenticates, a URN such as urn:dev:imei:…; never an address.';
COMMENT ON COLUMN device.report_interval IS 'Expected time between two uplinks, from the profile; freshness is judged by it.';
CREATE INDEX device_site ON device (site, tag);

CREATE TABLE reading (
    measured_at timestamptz NOT NULL,
    device_id   integer NOT NULL,
    metric_id   smallint NOT NULL,
    value       double precision NOT NULL,
    quality     smallint NOT NULL,
    PRIMARY KEY (device_id, metric_id, measured_at)
);
COMMENT ON TABLE reading IS 'One row a value. (device_id, metric_id, measured_at) is its identity. No foreign keys: the writer resolves both ids, and a check per row would halve its speed.';
COMMENT ON COLUMN reading.quality IS '192 good, 64 uncertain, 0 bad (OPC UA DA bytes)';
SELECT headworks_hypertable('reading', 'measured_at', interval '1 day');

CREATE TABLE uplink (
    received_at       timestamptz NOT NULL,
    uplink_id         bigint GENERATED ALWAYS AS IDENTITY,
    xid               xid8 NOT NULL DEFAULT pg_current_xact_id(),
    device_id         integer NOT NULL,
    transport         text NOT NULL,
    sequence          bigint,
    sent_at           timestamptz,
    first_measured_at timestamptz NOT NULL,
    last_measured_at  timestamptz NOT NULL,
    readings          integer NOT NULL,
    duplicates        integer NOT NULL DEFAULT 0,
    PRIMARY KEY (received_at, uplink_id)
);
COMMENT ON TABLE uplink IS 'One row a device and uplink that stored something. received_at is kept here, not on every reading.';
COMMENT ON COLUMN uplink.xid IS 'The writing transaction: whoever follows the log reads up to pg_snapshot_xmin, so that no late commit is skipped.';
SELECT headworks_hypertable('uplink', 'received_at', interval '1 day');
CREATE INDEX uplink_device ON uplink (device_id, received_at DESC);
CREATE INDEX uplink_xid ON uplink (xid);

CREATE TABLE latest (
    device_id   integer NOT NULL,
    metric_id   smallint NOT NULL,
    measured_at timestamptz NOT NULL,
    value       double precision NOT NULL,
    quality     smallint NOT NULL,
    PRIMARY KEY (device_id, metric_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE latest IS 'The newest reading by sample time of each device and metric; never goes back in time. Written with every commit, so without foreign keys (a fifth of its cost), as reading is.';

CREATE TABLE quarantine (
    quarantine_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at    timestamptz NOT NULL,
    reason         text NOT NULL,
    detail         text NOT NULL DEFAULT '',
    identity       text,
    transport      text NOT NULL,
    source         text NOT NULL DEFAULT '',
    content_format integer,
    payload        bytea NOT NULL
);
COMMENT ON TABLE quarantine IS 'What could not be stored: the whole uplink as it came, and why. Nothing is dropped in silence.';
CREATE INDEX quarantine_reason ON quarantine (reason, received_at DESC);
CREATE INDEX quarantine_identity ON quarantine (identity, received_at DESC);

-- Hourly and daily aggregates have one name on every edition. Here: ordinary views (good quality only).
CREATE VIEW reading_hourly AS
SELECT time_bucket(interval '1 hour', measured_at) AS bucket, device_id, metric_id,
       min(value) AS min_value, max(value) AS max_value, avg(value) AS avg_value, count(*) AS readings
FROM reading WHERE quality = 192 GROUP BY 1, 2, 3;

CREATE VIEW reading_daily AS
SELECT time_bucket(interval '1 day', measured_at) AS bucket, device_id, metric_id,
       min(value) AS min_value, max(value) AS max_value, avg(value) AS avg_value, count(*) AS readings
FROM reading WHERE quality = 192 GROUP BY 1, 2, 3;

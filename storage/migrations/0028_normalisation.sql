-- Quality with its sub-status, repaired clocks, calibrations with their history.

COMMENT ON COLUMN reading.quality IS 'OPC DA byte: 192 good, from 64 uncertain (85 and 86: below and above the process range), below it bad (17 and 18: below and above the sensor range)';

ALTER TABLE uplink ADD COLUMN clock_offset bigint;
COMMENT ON COLUMN uplink.clock_offset IS 'Microseconds that were added to sample times because the device''s clock was wrong: what it said itself is the sample time less this; sent_at is what it said';

CREATE TABLE calibration (
    device_id   integer NOT NULL REFERENCES device,
    metric_id   smallint NOT NULL REFERENCES metric,
    valid_from  timestamptz NOT NULL,
    gain        double precision NOT NULL CHECK (gain <> 0),
    "offset"    double precision NOT NULL,
    note        text NOT NULL DEFAULT '',
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (device_id, metric_id, valid_from)
);
COMMENT ON TABLE calibration IS 'What values sampled from valid_from on are corrected by when they come: gain × value + offset, in the canonical unit. Nothing stored is changed by it, and no row is ever deleted.';

DO $$
BEGIN
    GRANT SELECT, INSERT ON calibration TO headworks_writer;
    GRANT SELECT ON calibration TO headworks_reader;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;

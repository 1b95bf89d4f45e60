-- Where a site's clock on the wall stands.

CREATE TABLE site (
    site      text PRIMARY KEY,
    time_zone text NOT NULL
);
COMMENT ON TABLE site IS 'What is known of a site beyond its name; sites without a row are those of device.site all the same.';
COMMENT ON COLUMN site.time_zone IS 'A name of the IANA time zone database, as Asia/Shanghai';

DO $$
BEGIN
    GRANT SELECT ON site TO headworks_reader, headworks_writer;
    GRANT INSERT, UPDATE, DELETE ON site TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;

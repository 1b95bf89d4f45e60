-- A device that speaks through another: whoever sends in its name must be that one.
ALTER TABLE device ADD COLUMN gateway text NOT NULL DEFAULT '';
COMMENT ON COLUMN device.gateway IS 'Identity of the device that speaks for this one; empty where it speaks for itself';

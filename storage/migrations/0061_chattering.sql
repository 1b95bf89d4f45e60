-- How often an alarm chattered: activations that follow each other are one burst, however many there are.

CREATE OR REPLACE VIEW alarm_chattering AS
SELECT site, rule, device_id, count(*) FILTER (WHERE begins) AS bursts, max(raised_at) AS last_raised_at,
       count(*) AS activations
FROM (
    SELECT site, rule, device_id, raised_at,
           -- Three that share no activation with three before them.
           third AND NOT coalesce(lag(third) OVER one, false) AND NOT coalesce(lag(third, 2) OVER one, false) AS begins,
           third OR coalesce(lead(third) OVER one, false) OR coalesce(lead(third, 2) OVER one, false) AS chatters
    FROM (
        SELECT d.site, a.rule, a.device_id, a.raised_at,
               coalesce(a.raised_at - lag(a.raised_at, 2) OVER (PARTITION BY a.rule, a.device_id ORDER BY a.raised_at)
                            <= greatest(interval '60 seconds', 4 * d.report_interval), false) AS third
        FROM alarm a JOIN device d USING (device_id)
        WHERE a.raised_at > now() - interval '30 days' AND NOT a.retracted
    ) s
    WINDOW one AS (PARTITION BY rule, device_id ORDER BY raised_at)
) t WHERE chatters GROUP BY 1, 2, 3;
COMMENT ON VIEW alarm_chattering IS 'Three or more activations of one alarm within a minute, or within four reporting intervals (there should be none): how often that was, how many activations in all, the last one. By sample time, and whether or not people were told: what is shelved chatters, too.';

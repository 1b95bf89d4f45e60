"""What a device's clock is off by, as far as an uplink shows it: pure, from sample, sending and receiving times.

Nothing is ever sent in the future, so a clock that is ahead is wrong for certain. One that is behind may as well be an
uplink that was on its way for long, at a broker or in the device itself: that is repaired only for devices that stamp
each transmission anew (`Reporting.stamped`), and for clocks that began again at an epoch.
"""

from __future__ import annotations

from devices.model import HOUR, MINUTE, Instant, Report

EARLIEST: Instant = 1_262_304_000_000_000
"""2010-01-01: older than any device of this kind, younger than every epoch that a real-time clock resets to (1970,
1980, 2000), and early enough for archives that are replayed."""
AHEAD: Instant = 10 * MINUTE
"""How wrong a clock may be without being touched: one that drifts by 10 ppm for two years is off by this much."""
MOST_AHEAD: Instant = 26 * HOUR
"""Beyond this a clock that is ahead is not believed to be a wrong time zone (14 h at most) or a wrong date."""


def common_offset(report: Report, received_at: Instant, *, stamped: bool) -> Instant:
    """What to add to every sample time of a report; 0 where its clock is right, or nobody can say."""
    sent_at = report.sent_at
    if sent_at is None or sent_at < EARLIEST:
        return 0
    lag = received_at - sent_at
    if -MOST_AHEAD <= lag < -AHEAD or (stamped and lag > AHEAD):
        return lag
    return 0


def offset_ahead(report: Report, received_at: Instant, sampling: Instant) -> Instant:
    """What to add to every sample time of a report without a sending time that reaches into the future; 0 where nobody
    can say. The newest sample is taken to be of now, unless it stands apart from the one before it: that is a slip of
    one record, and its neighbours are right. `sampling` is the profile's."""
    if report.sent_at is not None:
        return 0
    times = sorted({record.time for record in report.measurements})
    lag = received_at - times[-1]
    apart = len(times) > 1 and times[-1] - times[-2] > 2 * sampling
    return lag if -MOST_AHEAD <= lag < -AHEAD and not apart else 0


def offset_since_reset(report: Report, received_at: Instant) -> Instant:
    """What to add to the sample times from before `EARLIEST`, of which there has to be one: the device counts from its
    last reset. Without a sending time the newest of them is taken to be of now."""
    sent_at = report.sent_at
    if sent_at is not None:
        return received_at - sent_at if sent_at < EARLIEST else 0
    return received_at - max(record.time for record in report.measurements if record.time < EARLIEST)

"""From uplinks to a batch that can be committed: pure, so that what becomes of an uplink is tested without a queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from devices.batch import Batch, QuarantineRecord, UplinkRecord
from devices.decode import decode
from devices.errors import DecodeError, clipped
from devices.model import Codec, Device, DeviceStatus, Reason, Report, Transport, Uplink
from devices.normalize import Reject, normalize
from devices.profile import Profile
from ingest.outcome import HELD, STORED, Outcome, Verdict

_FOR_OTHERS = frozenset({Codec.IOTDA_GATEWAY, Codec.THINGSBOARD_GATEWAY})
"""Dialects in which one device speaks for several."""

Resolve = Callable[[Iterable[str]], Mapping[str, Device]]


def translate(
    uplinks: Sequence[Uplink], resolve: Resolve, profiles: Mapping[str, Profile], *, hold: bool = False
) -> tuple[Batch, list[Outcome]]:
    """What to commit, and what to tell the sender of each uplink once that is committed (same order as `uplinks`).

    With `hold` a device that is not registered is told that all is well: what it sends waits in quarantine."""
    # Who speaks is asked first, as the profile may settle how to read the payload; then for whom only payloads name.
    known = {uplink.identity or uplink.authenticated for uplink in uplinks}
    devices = dict(resolve({identity for identity in known if identity}))
    decoded: dict[int, list[Report] | DecodeError] = {}
    named: set[str] = set()
    for index, uplink in enumerate(uplinks):
        if uplink.identity is None or uplink.codec in _FOR_OTHERS:
            decoded[index] = reports = _decode(uplink, None)
            if not isinstance(reports, DecodeError):
                named.update(report.identity for report in reports if report.identity)
    if named:
        devices.update(resolve(named - devices.keys()))
    batch = Batch()
    outcomes: list[Outcome] = []
    for index, uplink in enumerate(uplinks):
        # One uplink after the other: what was decoded is still in the processor's cache when it is normalised, which
        # takes a quarter less than the whole batch in two rounds.
        reports = decoded[index] if index in decoded else _decode(uplink, _profile(uplink, devices, profiles))
        outcomes.append(_outcome(uplink, reports, devices, profiles, batch, hold=hold))
    return batch, outcomes


def _outcome(
    uplink: Uplink,
    reports: list[Report] | DecodeError,
    devices: Mapping[str, Device],
    profiles: Mapping[str, Profile],
    batch: Batch,
    *,
    hold: bool,
) -> Outcome:
    """Add an uplink to the batch and say what becomes of it."""
    if isinstance(reports, DecodeError):
        batch.quarantine.append(QuarantineRecord(uplink, reports.reason, reports.detail, uplink.identity))
        return Outcome(Verdict.REJECTED, reports.reason, reports.detail)
    kept = len(batch.uplinks)
    refused = len(batch.quarantine)
    for report in reports:
        _take(uplink, report, devices, profiles, batch)
    # A frame may say nothing to keep (a heartbeat, a sensor without a value): that is no reason to send it again.
    if len(batch.uplinks) > kept or len(batch.quarantine) == refused:
        return STORED
    first = batch.quarantine[refused]
    if hold and first.reason is Reason.UNKNOWN_DEVICE and first.identity and first.identity not in devices:
        return HELD
    return Outcome(Verdict.REJECTED, first.reason, first.detail)


def _profile(uplink: Uplink, devices: Mapping[str, Device], profiles: Mapping[str, Profile]) -> Profile | None:
    device = devices.get(uplink.identity) if uplink.identity else None
    return profiles.get(device.profile) if device else None


def _decode(uplink: Uplink, profile: Profile | None) -> list[Report] | DecodeError:
    try:
        return decode(uplink, profile)
    except DecodeError as error:
        return error


def _take(
    uplink: Uplink, report: Report, devices: Mapping[str, Device], profiles: Mapping[str, Profile], batch: Batch
) -> None:
    """Add one device's report to the batch: its readings, and whatever of it goes to quarantine."""
    identity = report.identity or uplink.authenticated or uplink.identity
    device, refusal = _speaker(uplink, report, devices)
    profile = profiles.get(device.profile) if device else None
    if device and not profile:
        refusal = Reject(Reason.UNKNOWN_PROFILE, f"{device.profile!r} is not installed")
    if not device or not profile:
        assert refusal is not None
        batch.quarantine.append(QuarantineRecord(uplink, refusal.reason, refusal.detail, identity))
        return
    readings, rejects, clock_offset = normalize(report, device, profile, uplink.received_at)
    if readings:
        batch.uplinks.append(
            UplinkRecord(uplink, device.identity, readings, report.sequence, report.sent_at, clock_offset)
        )
    counts = Counter(reject.reason for reject in rejects)
    for reason, count in counts.items():
        detail = next(reject.detail for reject in rejects if reject.reason is reason)
        more = f" (and {count - 1} more records)" if count > 1 else ""
        batch.quarantine.append(QuarantineRecord(uplink, reason, clipped(detail) + more, identity))


def _speaker(uplink: Uplink, report: Report, devices: Mapping[str, Device]) -> tuple[Device | None, Reject | None]:
    """The device that speaks, or why nobody may: a payload must not name another device than the transport does."""
    sender = uplink.authenticated or uplink.identity
    if uplink.authenticated and uplink.identity and uplink.identity != uplink.authenticated:
        return None, Reject(Reason.IDENTITY_MISMATCH, f"it was sent by {uplink.authenticated!r}")
    identity = report.identity or sender
    if not identity:
        return None, Reject(Reason.UNKNOWN_DEVICE, "neither the address nor the payload names a device")
    device = devices.get(identity)
    if sender and identity != sender and (device is None or device.gateway != sender):
        return None, Reject(Reason.IDENTITY_MISMATCH, f"the payload speaks for {identity!r}")
    if device is None:
        return None, Reject(
            Reason.UNKNOWN_DEVICE, f"{identity!r} is not registered; add it with `headworks devices add`"
        )
    if device.gateway and sender is None:
        return None, Reject(Reason.IDENTITY_MISMATCH, f"only {device.gateway!r} speaks for {identity!r}")
    if device.status is not DeviceStatus.ACTIVE:
        return None, Reject(Reason.UNKNOWN_DEVICE, f"{identity!r} is retired")
    if device.protected and uplink.transport is Transport.COAP and not uplink.authenticated:
        return None, Reject(Reason.NOT_AUTHENTICATED, f"{identity!r} has a key and did not use it")
    return device, None

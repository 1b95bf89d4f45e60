"""The pipeline: one bounded queue, group commit, and an answer to every uplink only once it is durable.

Gateways submit from their own threads; one worker thread translates and commits. While the database is away or slow, a
second one makes uplinks durable in the spool instead, and the worker drains that when the database is back. What a
batch becomes is decided in `ingest.translate`, how it is stored in the room behind the `Commit` and `Spool` ports.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from devices.batch import Batch, Committed, QuarantineRecord, Spooled, SpoolMark
from devices.errors import UnavailableError
from devices.model import Reason, Uplink
from devices.profile import Profile
from ingest import counters
from ingest.limits import Rate
from ingest.outcome import HELD, STORED, Outcome, Verdict
from ingest.translate import Resolve, translate

log = structlog.get_logger()

_NOT_HELD = Outcome(Verdict.REJECTED, Reason.UNKNOWN_DEVICE, "not registered, and there is no room to hold more")
_SECURITY = frozenset({Reason.IDENTITY_MISMATCH, Reason.NOT_AUTHENTICATED, Reason.FUTURE_TIME})

Done = Callable[[Outcome], None]


Commit = Callable[[Batch], Committed]
"""Makes a batch durable; `UnavailableError` where nothing was written and a later try may succeed."""

Judge = Callable[[Batch, Committed], None]
"""Is handed every batch that was committed; must return at once and not raise."""


class Spool(Protocol):
    """Keeps uplinks on disk until the database has them."""

    @property
    def waiting(self) -> int:
        """Uplinks in it."""
        ...

    def append(self, uplinks: Sequence[Uplink]) -> None:
        """Make uplinks durable; `UnavailableError` where it is full."""
        ...

    def oldest(self, limit: int) -> Spooled | None:
        """About the `limit` oldest uplinks; `UnavailableError` where the database has to be asked and is away."""
        ...

    def discard(self, mark: SpoolMark) -> None:
        """Forget what the database has."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the pipeline holds and how it groups."""

    queue_uplinks: int = 8_000
    queue_bytes: int = 32 * 1024 * 1024
    batch_uplinks: int = 1_000
    batch_bytes: int = 4 * 1024 * 1024
    group_seconds: float = 0.004
    """How long the first uplink of a batch waits for company: well below a radio round trip."""
    retry_seconds: float = 0.5
    """Pause before the database is tried again."""
    retry_after: int = 5
    """What a sender is told (CoAP Max-Age, seconds) while nothing can be stored."""
    takeover_seconds: float = 0.5
    """How long an uplink waits for a slow commit before the spool takes it: an acknowledgement within a second."""
    drain_uplinks: int = 4_000
    """Uplinks a commit takes from the spool: more than from the queue, so that a slow database catches up."""


@dataclass(slots=True)
class _Submission:
    uplink: Uplink
    done: Done
    patient: bool
    since: float


class Pipeline:
    """Takes uplinks from any thread and answers each exactly once, unless the process ends first."""

    def __init__(
        self,
        commit: Commit,
        resolve: Resolve,
        profiles: Mapping[str, Profile],
        judge: Judge,
        monotonic: Callable[[], float],
        limits: Limits | None = None,
        spool: Spool | None = None,
        *,
        hold: bool = False,
    ) -> None:
        self._hold = hold
        self._commit = commit
        self._resolve = resolve
        self._profiles = profiles
        self._judge = judge
        self._warnings = Rate(1.0, 20)
        self._monotonic = monotonic
        self._limits = limits or Limits()
        self._spool = spool
        self._queue: deque[_Submission] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._ended = threading.Event()
        self._retry_at = 0.0
        self._spool_retry_at = 0.0
        self._drain_next = False
        self._away = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._keeper = threading.Thread(target=self._keep, name="spool", daemon=True) if spool else None

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()
        if self._keeper:
            self._keeper.start()

    def close(self, timeout: float) -> None:
        """Make durable what is queued, then stop; after `timeout` seconds, what is left is answered "unavailable"."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        self._ended.set()
        self._away.set()
        if self._keeper:
            self._keeper.join(timeout)
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
            self._bytes = 0
        self._refuse(left)

    @property
    def available(self) -> bool:
        """False from a commit that failed until one succeeds."""
        return not self._retry_at

    @property
    def spooled(self) -> int:
        """Uplinks that wait in the spool for the database."""
        return self._spool.waiting if self._spool else 0

    def submit(self, uplink: Uplink, done: Done, *, patient: bool) -> None:
        """Queue an uplink; `done` is called once, from one of the pipeline's threads or from this one.

        A patient sender's uplink waits while nothing can be stored (its protocol has flow control of its own); an
        impatient one is refused at once, so that the device can sleep and try again.
        """
        now = self._monotonic()
        with self._changed:
            full = len(self._queue) >= self._limits.queue_uplinks or self._bytes >= self._limits.queue_bytes
            away = now < self._retry_at and not self._spoolable(now)
            if not self._closing and (patient or not (full or away)):
                # What patient senders hand over is bounded by their protocol's own flow control, not by this queue.
                self._queue.append(_Submission(uplink, done, patient, now))
                self._bytes += len(uplink.payload)
                self._changed.notify_all()
                return
        self._refuse([_Submission(uplink, done, patient, now)])

    # The worker: from the queue, and from the spool while something is in it, to the database.

    def _run(self) -> None:
        while self._wait_for_work():
            if self._drain_next:
                self._drain()
                continue
            taken = self._take(self._limits.group_seconds)
            if not taken:  # the spool's thread was faster
                continue
            try:
                self._store(taken)
            except UnavailableError as error:
                self._postpone(taken, str(error))

    def _wait_for_work(self) -> bool:
        """Wait until there is something to commit; False when it is time to end. Decides what is next: fresh uplinks
        and the spool take turns, so that neither an alarm nor the backlog waits for the other."""
        with self._changed:
            while True:
                pause = self._retry_at - self._monotonic()
                spooled = self.spooled > 0
                if pause > 0 and not self._closing:
                    self._changed.wait(pause)
                elif spooled and not self._closing and (self._retry_at or not self._queue or not self._drain_next):
                    # While the database is away the spool is also what asks for it: the queue is the spool's business.
                    self._drain_next = True
                    return True
                elif self._queue:
                    self._drain_next = False
                    return True
                elif self._closing:
                    return False
                else:
                    # With a spool, its thread may fill it without a word to this one.
                    self._changed.wait(self._limits.takeover_seconds if self._spool else None)

    def _take(self, group_seconds: float) -> list[_Submission]:
        """A group from the head of the queue; what comes within `group_seconds` still joins it."""
        limits = self._limits
        with self._changed:
            deadline = self._monotonic() + group_seconds
            while not self._closing and len(self._queue) < limits.batch_uplinks and self._bytes < limits.batch_bytes:
                pause = deadline - self._monotonic()
                if pause <= 0 or not self._changed.wait(pause):
                    break
            taken: list[_Submission] = []
            size = 0
            while self._queue and len(taken) < limits.batch_uplinks and size < limits.batch_bytes:
                submission = self._queue.popleft()
                size += len(submission.uplink.payload)
                taken.append(submission)
            self._bytes -= size
            counters.QUEUE_UPLINKS.set(len(self._queue))
            return taken

    def _store(self, taken: Sequence[_Submission]) -> None:
        for entry, outcome in zip(taken, self._committed([entry.uplink for entry in taken], None), strict=True):
            self._answer(entry, outcome)

    def _committed(self, uplinks: Sequence[Uplink], mark: SpoolMark | None) -> Sequence[Outcome]:
        """Translate, commit and judge. What a defect of ours meets is found by halving and goes to quarantine alone;
        `mark` goes with the last part, so that a crash in between repeats rather than skips."""
        try:
            batch, outcomes = translate(uplinks, self._resolve, self._profiles, hold=self._hold)
            batch.drained = mark
            begin = self._monotonic()
            committed = self._commit(batch)
        except UnavailableError:
            raise
        except Exception as error:
            log.exception("pipeline.defect", uplinks=len(uplinks))
            if len(uplinks) > 1:
                middle = len(uplinks) // 2
                return [*self._committed(uplinks[:middle], None), *self._committed(uplinks[middle:], mark)]
            detail = f"{type(error).__name__}: {error}"
            outcomes = [Outcome(Verdict.REJECTED, Reason.INTERNAL_ERROR, "an internal error")]
            batch = Batch([], [QuarantineRecord(uplinks[0], Reason.INTERNAL_ERROR, detail, uplinks[0].identity)], mark)
            begin = self._monotonic()
            committed = self._commit(batch)
        counters.COMMIT_SECONDS.observe(self._monotonic() - begin)
        if self._retry_at:
            log.info("store.available", spooled=self.spooled)
        self._retry_at = 0.0
        self._away.clear()
        counters.STORE_AVAILABLE.set(1)
        self._judge(batch, committed)
        self._count(batch, committed)
        return _final(batch, uplinks, outcomes, committed)

    def _drain(self) -> None:
        assert self._spool is not None
        try:
            spooled = self._spool.oldest(self._limits.drain_uplinks)
            if spooled is None:
                return
            self._committed(spooled.uplinks, spooled.mark)
            self._spool.discard(spooled.mark)
        except Exception as error:
            if not isinstance(error, UnavailableError):
                log.exception("spool.defect")
            self._postpone([], str(error))
            return
        counters.SPOOL_DRAINED.inc(len(spooled.uplinks))
        self._measure_spool()
        if not self._spool.waiting:
            log.info("spool.drained")

    def _postpone(self, taken: Sequence[_Submission], why: str) -> None:
        """Nothing was written: the spool takes what waits; where there is none, the impatient are refused and the
        patient wait at the head of the queue."""
        if not self._retry_at:
            log.warning("store.unavailable", why=why, spool="on" if self._spool else "off")
        counters.STORE_AVAILABLE.set(0)
        with self._changed:
            now = self._monotonic()
            self._retry_at = now + self._limits.retry_seconds
            self._queue.extendleft(reversed(taken))
            self._bytes += sum(len(entry.uplink.payload) for entry in taken)
            spoolable = self._spoolable(now)
        if not spoolable:
            self._let_wait()
        elif self._closing:
            while self._queue and self._spoolable(self._monotonic()):
                self._spill()
        self._away.set()

    def _let_wait(self) -> None:
        """Refuse the impatient, and when closing everybody; the patient keep their order."""
        with self._changed:
            waiting = list(self._queue)
            staying = [entry for entry in waiting if entry.patient and not self._closing]
            leaving = [entry for entry in waiting if not (entry.patient and not self._closing)]
            self._queue = deque(staying)
            self._bytes = sum(len(entry.uplink.payload) for entry in staying)
        self._refuse(leaving)

    # The keeper: from the queue to the spool, while the worker cannot.

    def _keep(self) -> None:
        """Wake a few times a second only, so that it costs nothing while the database keeps up."""
        pause = self._limits.takeover_seconds / 2
        while not self._ended.is_set():
            self._away.wait(pause)
            if self._closing or not self._spoolable(self._monotonic()):
                self._ended.wait(pause)
                continue
            with self._changed:
                if self._retry_at and not self._queue:
                    self._changed.wait(pause)
            while self._due():
                self._spill()

    def _due(self) -> bool:
        """Whether the head of the queue should not wait for the database any longer."""
        now = self._monotonic()
        with self._changed:
            if not self._queue or self._closing or not self._spoolable(now):
                return False
            return bool(self._retry_at) or now - self._queue[0].since > self._limits.takeover_seconds

    def _spoolable(self, now: float) -> bool:
        return self._spool is not None and now >= self._spool_retry_at

    def _spill(self) -> None:
        """Make the head of the queue durable in the spool and answer it."""
        assert self._spool is not None
        taken = self._take(0)
        if not taken:
            return
        try:
            self._spool.append([entry.uplink for entry in taken])
        except Exception as error:
            if not isinstance(error, UnavailableError):
                log.exception("spool.defect")
            log.warning("spool.refuses", why=str(error))
            with self._changed:
                self._spool_retry_at = self._monotonic() + self._limits.retry_seconds
                self._queue.extendleft(reversed(taken))
                self._bytes += sum(len(entry.uplink.payload) for entry in taken)
            if self._retry_at:
                self._let_wait()
            return
        counters.SPOOLED.inc(len(taken))
        self._measure_spool()
        for entry in taken:
            self._answer(entry, STORED)

    def _measure_spool(self) -> None:
        counters.SPOOL_WAITING.set(self.spooled)

    # Answers.

    def _refuse(self, entries: Sequence[_Submission]) -> None:
        outcome = Outcome(Verdict.UNAVAILABLE, detail="not now", retry_after=self._limits.retry_after)
        for entry in entries:
            counters.QUEUE_REFUSED.labels(entry.uplink.transport.value).inc()
            self._answer(entry, outcome)

    def _answer(self, entry: _Submission, outcome: Outcome) -> None:
        counters.UPLINKS.labels(entry.uplink.transport.value, outcome.verdict.value).inc()
        try:
            entry.done(outcome)
        except Exception:  # one gateway's defect must not cost the others their answers
            log.exception("pipeline.answer_failed", source=entry.uplink.source)

    def _count(self, batch: Batch, committed: Committed) -> None:
        counters.BATCH_UPLINKS.observe(len(batch.uplinks))
        counters.READINGS.labels("stored").inc(committed.stored)
        counters.READINGS.labels("duplicate").inc(committed.duplicates)
        counters.QUARANTINE_DROPPED.inc(committed.dropped)
        for record in (*batch.quarantine, *committed.refused):
            counters.QUARANTINED.labels(record.reason.value).inc()
            if record.reason in _SECURITY:
                self._warn(record)

    def _warn(self, record: QuarantineRecord) -> None:
        """A security event: counted each time, told in the log as often as people can read."""
        counters.SECURITY_EVENTS.labels(record.reason.value).inc()
        if not self._warnings.wait(None, self._monotonic()):
            log.warning(
                "security.refused",
                reason=record.reason.value,
                claimed=record.identity,
                source=record.uplink.source,
                why=record.detail,
            )


def _final(
    batch: Batch, uplinks: Sequence[Uplink], outcomes: Sequence[Outcome], committed: Committed
) -> Sequence[Outcome]:
    """The outcomes after the writer had its say: an uplink of which it put everything into quarantine is rejected."""
    if committed.dropped:
        # Which of them the quarantine had no room for is not known: nobody is told "held" who perhaps was not.
        outcomes = [_NOT_HELD if outcome is HELD else outcome for outcome in outcomes]
    if not committed.refused:
        return outcomes
    refused = {id(record.uplink): record for record in committed.refused}
    readings = {id(record.uplink): len(record.readings) for record in batch.uplinks}
    final = []
    for uplink, outcome in zip(uplinks, outcomes, strict=True):
        record = refused.get(id(uplink))
        wholly = record is not None and (record.rows is None or record.rows >= readings.get(id(uplink), 0))
        if record is not None and wholly:
            final.append(Outcome(Verdict.REJECTED, record.reason, record.detail))
        else:
            final.append(outcome)
    return final

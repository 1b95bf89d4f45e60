"""The pipeline: one bounded queue, group commit, and an answer to every uplink only after the commit that held it.

Gateways submit from their own threads; one worker thread translates and commits. What a batch becomes is decided in
`ingest.translate`, how it is stored in the room behind the `Commit` port.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from devices.batch import Batch, Committed
from devices.errors import UnavailableError
from devices.model import Uplink
from devices.profile import Profile
from ingest import counters
from ingest.outcome import Outcome, Verdict
from ingest.translate import Resolve, translate

log = structlog.get_logger()

Done = Callable[[Outcome], None]


Commit = Callable[[Batch], Committed]
"""Makes a batch durable; `UnavailableError` where nothing was written and a later try may succeed."""

Judge = Callable[[Batch, Committed], None]
"""Is handed every batch that was committed; must return at once and not raise."""


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


@dataclass(slots=True)
class _Submission:
    uplink: Uplink
    done: Done
    patient: bool


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
    ) -> None:
        self._commit = commit
        self._resolve = resolve
        self._profiles = profiles
        self._judge = judge
        self._monotonic = monotonic
        self._limits = limits or Limits()
        self._queue: deque[_Submission] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Commit what is queued, then stop; after `timeout` seconds, what is left is answered with "unavailable"."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
        self._refuse(left)

    @property
    def available(self) -> bool:
        """False from a commit that failed until one succeeds."""
        return not self._retry_at

    def submit(self, uplink: Uplink, done: Done, *, patient: bool) -> None:
        """Queue an uplink; `done` is called once, from the worker's thread or from this one.

        A patient sender's uplink waits while the database is away (its protocol has flow control of its own); an
        impatient one is refused at once, so that the device can sleep and try again.
        """
        with self._changed:
            full = len(self._queue) >= self._limits.queue_uplinks or self._bytes >= self._limits.queue_bytes
            away = self._monotonic() < self._retry_at
            if not self._closing and (patient or not (full or away)):
                # What patient senders hand over is bounded by their protocol's own flow control, not by this queue.
                self._queue.append(_Submission(uplink, done, patient))
                self._bytes += len(uplink.payload)
                self._changed.notify_all()
                return
        self._refuse([_Submission(uplink, done, patient)])

    def _run(self) -> None:
        while True:
            taken = self._take()
            if not taken:
                return
            try:
                self._store(taken)
            except UnavailableError as error:
                self._postpone(taken, str(error))
            except Exception:  # a defect of ours must not end ingestion: nothing is acknowledged, and it is told
                log.exception("pipeline.defect", uplinks=len(taken))
                self._postpone(taken, "an internal error")

    def _take(self) -> list[_Submission]:
        """Wait for uplinks and group them; an empty list means that it is time to end."""
        limits = self._limits
        with self._changed:
            while True:
                pause = self._retry_at - self._monotonic()
                if pause > 0 and not self._closing:
                    self._changed.wait(pause)
                elif self._queue:
                    break
                elif self._closing:
                    return []
                else:
                    self._changed.wait()
            deadline = self._monotonic() + limits.group_seconds
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
        batch, outcomes = translate([entry.uplink for entry in taken], self._resolve, self._profiles)
        begin = self._monotonic()
        committed = self._commit(batch)
        counters.COMMIT_SECONDS.observe(self._monotonic() - begin)
        if self._retry_at:
            log.info("store.available")
        self._retry_at = 0.0
        counters.STORE_AVAILABLE.set(1)
        self._judge(batch, committed)
        for entry, outcome in zip(taken, _final(batch, taken, outcomes, committed), strict=True):
            self._answer(entry, outcome)
        self._count(batch, committed)

    def _postpone(self, taken: Sequence[_Submission], why: str) -> None:
        """Nothing was written: the impatient are refused, the patient wait at the head of the queue."""
        if not self._retry_at:
            log.warning("store.unavailable", why=why)
        counters.STORE_AVAILABLE.set(0)
        patient = [entry for entry in taken if entry.patient]
        with self._changed:
            self._retry_at = self._monotonic() + self._limits.retry_seconds
            waiting = list(self._queue)
            impatient = [entry for entry in (*taken, *waiting) if not entry.patient]
            self._queue = deque([*patient, *(entry for entry in waiting if entry.patient)])
            self._bytes = sum(len(entry.uplink.payload) for entry in self._queue)
            if self._closing:
                impatient.extend(self._queue)
                self._queue.clear()
        self._refuse(impatient)

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

    @staticmethod
    def _count(batch: Batch, committed: Committed) -> None:
        counters.BATCH_UPLINKS.observe(len(batch.uplinks))
        counters.READINGS.labels("stored").inc(committed.stored)
        counters.READINGS.labels("duplicate").inc(committed.duplicates)
        for record in (*batch.quarantine, *committed.refused):
            counters.QUARANTINED.labels(record.reason.value).inc()


def _final(
    batch: Batch, taken: Sequence[_Submission], outcomes: Sequence[Outcome], committed: Committed
) -> Sequence[Outcome]:
    """The outcomes after the writer had its say: an uplink of which it put everything into quarantine is rejected."""
    if not committed.refused:
        return outcomes
    refused = {id(record.uplink): record for record in committed.refused}
    readings = {id(record.uplink): len(record.readings) for record in batch.uplinks}
    final = []
    for entry, outcome in zip(taken, outcomes, strict=True):
        record = refused.get(id(entry.uplink))
        wholly = record is not None and (record.rows is None or record.rows >= readings.get(id(entry.uplink), 0))
        if record is not None and wholly:
            final.append(Outcome(Verdict.REJECTED, record.reason, record.detail))
        else:
            final.append(outcome)
    return final

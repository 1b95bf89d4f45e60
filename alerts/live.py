"""The engine at work on live readings: a thread between the commit path and the journal.

Batches are handed over in memory as they are committed. The uplink log in the database is the truth behind that: at the
start, every second, and whenever a hand-over had to be skipped, the log says which devices have readings that were not
judged yet, and those are read from the database. So nothing is lost when this falls behind or when the process dies; as
the journal does not depend on the order of arrival, judging something twice changes nothing.

Where several processes share a database, one of them leads: it judges, the others wait to take its place.

The engine itself is pure (`alerts.engine`); every access to the database is one of the `alerts.ports`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import structlog
from prometheus_client import Counter, Gauge

from alerts.engine import Engine
from alerts.feeding import DEVICES_SECONDS, Feeder
from alerts.ports import Announcer, Ports
from devices.alarm import AlarmChange
from devices.errors import UnavailableError
from devices.model import Instant, Reading

log = structlog.get_logger()

CHANGES = Counter("headworks_alarm_changes", "Lines written to the alarm journal", ["kind"])
SKIPPED = Counter("headworks_handover_skipped", "Committed batches left to the uplink log as the engine was behind")
FAILING = Gauge("headworks_rules_failing", "Rules that raised an unexpected error")
IDLE = Gauge("headworks_rules_idle", "Rules that can never call on some of the devices that they are for")
LEADING = Gauge("headworks_engine_leading", "1 while the engine of this process judges, 0 while another one's does")
BACKLOG = Gauge("headworks_engine_backlog", "Readings handed over and not judged yet")

BACKLOG_LIMIT = 200_000
"""Readings held for the engine; beyond it they are read again from the database when it has caught up."""
CONTACT_SECONDS = 60.0
"""How often it is judged who is heard of; so long after a start the backlog has time to come in."""
CONTACT_SHARE = 20
"""With a large fleet that takes its time: at most one part in so many is spent on it, so that readings do not wait."""
_KEEPING_SHARE = 0.8
"""Of the time that there is for a stop: until then it keeps what it knows."""
SCAN_SECONDS = 1.0
"""How often the uplink log is asked for what did not come by hand-over."""


class LiveEngine:
    """Judges committed readings in a thread of its own, and writes what follows to the journal. `keep_every`: seconds
    between the rounds in which what it knows is kept (`alerts.keeping`)."""

    def __init__(
        self,
        engine: Engine,
        ports: Ports,
        announcer: Announcer,
        monotonic: Callable[[], float],
        keep_every: float | None = None,
    ) -> None:
        self._feeder = Feeder(engine, ports, monotonic, keep_every)
        self._ports = ports
        self._announcer = announcer
        self._monotonic = monotonic
        self._handed: deque[tuple[int, list[Reading]]] = deque()
        self._backlog = 0
        self._changed = threading.Condition()
        self._closing = False
        self._caught_up = threading.Event()
        # Judged but not yet below the position: transactions that the next scan need not look at.
        self._known: set[int] = set()
        self._position: int | None = None
        # The position as long as nobody waits to be met: with it the journal is complete.
        self._complete: int | None = None
        self._written: int | None = None
        # Transactions that the last scan saw and that had not been handed over: perhaps on their way, so they get until
        # the next scan.
        self._late: set[int] = set()
        self._stop_by = float("inf")
        self._out_of_time = False
        self._told_idle: set[tuple[str, str]] = set()
        self._leading = False
        self._contact_at = 0.0  # set anew when this begins to lead
        self._contact_pause = CONTACT_SECONDS
        self._beside = ThreadPoolExecutor(1, "contact")
        self._contact: Future[Sequence[AlarmChange]] | None = None
        self._next: tuple[Engine, Callable[[], None]] | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin, with what was committed since the position that the journal keeps."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Judge what was handed over, keep what is known, then stop; what is left after `timeout` seconds waits for the
        next start."""
        with self._changed:
            self._closing = True
            self._stop_by = self._monotonic() + _KEEPING_SHARE * timeout
            self._changed.notify_all()
        self._thread.join(timeout)
        self._out_of_time = True
        self._beside.shutdown(wait=False, cancel_futures=True)
        self._feeder.close()

    def exchange(self, engine: Engine, taken: Callable[[], None]) -> None:
        """Judge by another engine (other rules) from the next batch on; `taken` is called in the engine's thread when
        it takes over."""
        with self._changed:
            self._next = (engine, taken)
            self._changed.notify_all()

    def hand_over(self, transaction: int, readings: list[Reading]) -> None:
        """Take the readings of one commit; returns at once."""
        with self._changed:
            if self._backlog + len(readings) > BACKLOG_LIMIT:
                SKIPPED.inc()
                return
            self._handed.append((transaction, readings))
            self._backlog += len(readings)
            self._changed.notify_all()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until everything committed before this call has been judged and written; False if it took longer."""
        with self._changed:
            self._caught_up.clear()
            self._changed.notify_all()
        return self._caught_up.wait(timeout)

    @property
    def failing(self) -> Mapping[str, str]:
        """Rules that raised an unexpected error, with it."""
        return self._feeder.engine.failing

    @property
    def idle(self) -> Mapping[str, Mapping[str, str]]:
        """Rules that can never call on some devices that they are for: the reasons, each with the first device."""
        return self._feeder.engine.idle

    def _run(self) -> None:
        scanned_at = refreshed_at = float("-inf")
        while not self._out_of_time:
            asked = not self._caught_up.is_set()
            handed = self._take(0.0 if asked or self._feeder.again or self._feeder.is_anybody_waiting else SCAN_SECONDS)
            closing = (
                self._closing
                and not handed
                and not (self._feeder.is_anybody_waiting and self._monotonic() < self._stop_by)
            )
            self._take_over()
            try:
                if not self._lead():
                    scanned_at = float("-inf")
                    if closing:
                        return
                    self._pause()
                    continue
                if self._position is None:
                    self._scan(everything=True)  # before any device is met: what was left unjudged says how far back
                self._judge(handed)
                now = self._monotonic()
                if closing or asked or now - scanned_at >= SCAN_SECONDS:
                    self._scan(everything=closing or asked)
                    scanned_at = now
                self._write()  # what was found does not wait for the pasts of others
                self._meet(many=not handed)
                self._judge_contact(now)
                self._keep(closing=closing)
                if now - refreshed_at >= DEVICES_SECONDS:
                    self._feeder.refresh()
                    refreshed_at = now
            except UnavailableError as error:
                log.warning("engine.waiting", why=str(error))
                self._pause()
            except Exception:  # a defect must be seen, but must not end the judging of everything else
                log.exception("engine.defect")
                self._pause()
            else:
                if asked and not handed and not self._feeder.is_anybody_waiting:
                    self._caught_up.set()
            if closing:
                return

    def _meet(self, *, many: bool) -> None:
        """Whoever waits to be met may wait for the next start, if there is no time left."""
        if self._monotonic() < self._stop_by:
            self._feeder.meet(many=many)
            self._write()

    def _judge_contact(self, now: float) -> None:
        """In a thread beside this one: with a hundred thousand devices it takes seconds, for which no alarm waits."""
        if self._contact is not None:
            if not self._contact.done() or self._contact.cancelled():
                return
            found, self._contact = self._contact, None
            self._contact_pause = max(CONTACT_SECONDS, CONTACT_SHARE * (now - self._contact_at))
            self._feeder.unwritten.extend(found.result())
            self._write()
        # Only on a journal that has everything: what is not written yet would be found lacking again.
        elif not self._closing and now - self._contact_at >= self._contact_pause and not self._feeder.unwritten:
            self._contact_at = now
            self._contact = self._beside.submit(self._ports.contact)

    def _keep(self, *, closing: bool) -> None:
        """Only what is written is kept: what is not would be found again."""
        feeder = self._feeder
        if self._complete is None or feeder.again or feeder.unwritten:
            return
        if closing:
            feeder.keeping.stop(feeder.engine, self._complete, self._stop_by)
        else:
            feeder.keeping.go_on(feeder.engine, self._complete)

    def _take_over(self) -> None:
        with self._changed:
            following, self._next = self._next, None
        if following is not None:
            engine, taken = following
            self._feeder.exchange(engine)
            taken()

    def _lead(self) -> bool:
        """Whether to judge. Who begins to lead knows nothing yet, and the log says what to begin with; so whoever
        stops leading forgets everything."""
        leading = self._ports.lead()
        if leading != self._leading:
            log.info("engine.leading" if leading else "engine.standby")
            LEADING.set(leading)
            self._leading = leading
            self._contact_at = self._monotonic()
            self._contact = None  # what is found by now is for the next one who leads
            if not leading:
                self._feeder.end()
                self._known.clear()
                self._late.clear()
                self._position = self._complete = self._written = None
        return leading

    def _take(self, patience: float) -> list[tuple[int, list[Reading]]]:
        with self._changed:
            if not self._handed and not self._closing and patience:
                self._changed.wait(patience)
            handed = list(self._handed)
            self._handed.clear()
            self._backlog = 0
            BACKLOG.set(0)
            return handed

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, SCAN_SECONDS)

    def _judge(self, handed: list[tuple[int, list[Reading]]]) -> None:
        readings = [reading for _, batch in handed for reading in batch]
        if readings:
            self._feeder.judge(readings)
        self._known.update(transaction for transaction, _ in handed)

    def _scan(self, *, everything: bool) -> None:
        """Judge what the uplink log knows and we do not, and learn up to where everything is judged."""
        first = self._position is None
        position = self._feeder.begin() if self._position is None else self._position
        again, self._feeder.again = self._feeder.again, {}
        self._feeder.judge_stored(again)
        changed = self._ports.changed(position, self._known)
        self._position = position
        if first:
            self._complete = position
            unjudged = self._feeder.unjudged
            for uplink in changed.uplinks:
                unjudged[uplink.device] = min(uplink.since, unjudged.get(uplink.device, uplink.since))
        self._judge(self._take(0))
        new = [uplink for uplink in changed.uplinks if uplink.transaction not in self._known]
        due = [uplink for uplink in new if everything or uplink.transaction in self._late]
        since: dict[str, Instant] = {}
        for uplink in due:
            since[uplink.device] = min(uplink.since, since.get(uplink.device, uplink.since))
        self._feeder.judge_stored(since)
        self._known |= {uplink.transaction for uplink in due}
        self._late = {uplink.transaction for uplink in new} - self._known
        self._position = min([changed.watermark, *self._late])
        self._known = {number for number in self._known if number >= self._position}

    def _tell_idle(self) -> None:
        """A rule is never off in silence: what it lacks on some devices is told once."""
        idle = self._feeder.engine.idle
        IDLE.set(len(idle))
        for rule, reasons in idle.items():
            for why, device in reasons.items():
                if (rule, why) not in self._told_idle:
                    self._told_idle.add((rule, why))
                    log.info("rule.idle", rule=rule, why=why, first=device)

    def _write(self) -> None:
        """Changes, their announcements and the position in one transaction."""
        if self._position is None or self._feeder.again:
            return
        self._feeder.settle()
        changes = self._feeder.unwritten
        if not self._feeder.is_anybody_waiting:
            self._complete = self._position
        if not changes and self._complete == self._written:
            return
        about = self._feeder.about(changes)
        composed = [
            self._announcer.compose(change, about[change.alarm.device])
            for change in changes
            if change.alarm.device in about
        ]
        announcements = [announcement for announcement in composed if announcement is not None]
        self._feeder.keeping.before_writing(self._feeder.engine)
        assert self._complete is not None
        self._ports.record(changes, self._complete, announcements)
        self._feeder.written()
        self._written = self._complete
        FAILING.set(len(self._feeder.engine.failing))
        self._tell_idle()
        for change in changes:
            CHANGES.labels(change.kind.value).inc()
        self._announcer.told(announcements)

"""The dispatcher: from what waits to be routed to messages for the channels, in one transaction a step, in a thread.

What is decided is in `alerts.dispatch`, what is kept in `storage.notification`. Of several processes one at a time does
a step; it does not matter which.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from prometheus_client import Counter, Gauge

from alerts import dispatch
from alerts.dispatch import Case, State, Summary, Window
from alerts.routing import Routing
from devices.alarm import Announcement
from devices.errors import UnavailableError
from devices.model import HOUR, Instant, moment
from headworks.session import Session
from storage import notification, outbox
from storage.database import Connection, unavailable
from storage.notification import CaseRow

log = structlog.get_logger()

SENT = Counter("headworks_notifications", "Messages that routing led to", ["channel"])
TAKEN = Gauge("headworks_notifications_taken", "Announcements that the last step of the dispatcher took in")

AT_ONCE = 500
"""Announcements that one step takes in."""
IDLE_SECONDS = 1.0
"""How often it is looked at what is due."""


class Dispatcher:
    """Routes announcements in a thread of its own. `start()`, `wake()` when there are new ones, `close()`."""

    def __init__(
        self, routing: Routing, session: Session, clock: Callable[[], Instant], sent: Callable[[], None]
    ) -> None:
        self._routing = routing
        self._session = session
        self._clock = clock
        self._sent = sent
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something new to route."""
        self._woken.set()

    def close(self, timeout: float) -> None:
        """Stop after the step under way; what is left waits in the database."""
        self._closing.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def replace(self, routing: Routing) -> None:
        """Route by another file from the next step on."""
        self._routing = routing

    def _run(self) -> None:
        while not self._closing.is_set():
            self._woken.clear()
            try:
                taken, sent = self._session.run(lambda connection: step(connection, self._routing, self._clock()))
                TAKEN.set(taken)
                if sent:
                    self._sent()
                if taken == AT_ONCE:
                    continue
            except UnavailableError as error:
                log.warning("dispatcher.waiting", why=str(error))
            except Exception:  # a defect must be seen, but must not end the routing
                log.exception("dispatcher.defect")
            self._woken.wait(IDLE_SECONDS)


def step(connection: Connection, routing: Routing, now: Instant) -> tuple[int, int]:
    """Take in what waits, do what is due: all of it, or, where this process dies, none. Returns how many announcements
    were taken in, and how many messages they led to."""
    with unavailable(), connection.transaction():
        if not notification.lock(connection):
            return 0, 0
        arrived = notification.arrived(connection, AT_ONCE)
        due = notification.due(connection, now)
        failures = _failures(connection, now)
        if not arrived and not due and not failures:
            return 0, 0
        entries = [entry for _, entry in arrived] + failures
        state = _state(connection, {(entry.rule, entry.device) for entry in entries} | {row[1:3] for row in due})
        unacknowledged = notification.unacknowledged(connection, {row[1:3] for row in due if row.told_at is not None})
        dispatch.due(routing, state, [Case(*row) for row in due], unacknowledged, now)
        for entry in failures:
            dispatch.take(routing, state, entry, now)
        done = []
        for number, entry in arrived:
            try:
                dispatch.take(routing, state, entry, now)
                done.append(number)
            except Exception as error:  # one that cannot be read must not stand before the others for ever
                log.exception("dispatcher.defect", rule=entry.rule, device=entry.device)
                outbox.give_up(connection, number, f"it could not be routed: {type(error).__name__}")
        notification.routed(connection, done)
        _keep(connection, routing, state, now)
    return len(arrived), len(state.messages)


def _state(connection: Connection, subjects: set[tuple[str, str]]) -> State:
    rows = notification.cases_of(connection, subjects)
    cases = [Case(*row) for row in rows]
    return State(
        cases={case.name: case for case in cases},
        windows={name: Window(*row) for name, row in notification.windows(connection).items()},
        explaining=notification.explaining(connection),
        summaries={
            key: Summary(told, remaining)
            for key, (told, remaining) in notification.summaries(
                connection, {case.summary for case in cases if case.summary}
            ).items()
        },
    )


def _keep(connection: Connection, routing: Routing, state: State, now: Instant) -> None:
    notification.keep(
        connection,
        [_row(state.cases[name]) for name in state.changed if name in state.cases],
        [name for name in state.changed if name not in state.cases],
    )
    windows = {name: state.windows[name] for name in state.changed_windows}
    longest = max(route.group.window for route in routing.routes)
    notification.keep_windows(
        connection, {name: (one.opened_at, one.sent) for name, one in windows.items()}, now - longest - HOUR
    )
    notification.keep_explaining(connection, state.changed_explaining, state.explaining)
    notification.send(connection, [(one.announcement, one.channels) for one in state.messages])
    for one in state.messages:
        for channel in one.channels:
            SENT.labels(channel).inc()


def _row(case: Case) -> CaseRow:
    return CaseRow(
        *(case.route, case.rule, case.device, case.key, case.told, case.group, case.held, case.by, case.due_at),
        *(case.over, case.channels, case.told_at, case.step, case.repeats, case.summary),
    )


def _failures(connection: Connection, now: Instant) -> list[Announcement]:
    """What is to be told of channels with dead letters: that they have some, and that they have none any more."""
    found = []
    at = _iso(now)
    for channel, dead, raised_at in notification.failing(connection):
        if dead and raised_at is None:
            notification.keep_failure(connection, channel, now)
            found.append(dispatch.channel_failure(channel, dead, at, "raised", at))
        elif not dead and raised_at is not None:
            notification.keep_failure(connection, channel, None)
            found.append(dispatch.channel_failure(channel, dead, at, "returned", _iso(raised_at)))
    return found


def _iso(at: Instant) -> str:
    return moment(at).isoformat().replace("+00:00", "Z")

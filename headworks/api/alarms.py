"""`/alarms` and `/suppressions`: the same steps as `headworks alarms`, by the same functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime

from alerts import lifecycle as steps
from alerts.lifecycle import LifecycleError
from devices import alarm as words
from devices.alarm import AlarmState, Priority, SuppressionKind
from devices.duration import parse_duration
from devices.model import Instant, instant
from headworks.api import cursor
from headworks.api.access import Operator, Principal, RefusedError, Viewer, note, write
from headworks.api.context import Context, Ctx
from headworks.api.problems import Problem
from headworks.api.schemas import alarms as schemas
from headworks.api.schemas.fields import Name
from storage import api_queries, lifecycle
from storage.database import Connection
from storage.lifecycle import ListedAlarm
from storage.tokens import Role

router = APIRouter(tags=["alarms"])

AlarmNumber = Annotated[int, Path(ge=1, lt=2**63)]
_GONE = "there is no alarm of this number"


@router.get("/alarms")
def list_alarms(
    ctx: Ctx,
    _: Viewer,
    *,
    everything: Annotated[bool, Query(alias="all", description="Also what is normal again")] = False,
    suppressed: Annotated[bool | None, Query(description="Only what is suppressed, or only what is not")] = False,
    state: Annotated[list[AlarmState] | None, Query()] = None,
    priority: Annotated[list[Priority] | None, Query()] = None,
    site: Name | None = None,
    area: Name | None = None,
    device: Annotated[Name | None, Query(description="Identity or tag")] = None,
    rule: Name | None = None,
    q: Annotated[Name | None, Query(description="A part of tag, identity, message or title")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Raised at or after this")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Raised before this")] = None,
    order: Annotated[str, Query(pattern="^(work|number)$", description="work: unacknowledged first")] = "work",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: Annotated[cursor.CursorText | None, Query(alias="cursor")] = None,
) -> schemas.AlarmPage:
    """Alarms in the order to work on them: unacknowledged first, then by priority, the newest first."""
    selection = api_queries.AlarmFilter(
        open_only=not everything,
        suppressed=suppressed,
        states=state or (),
        priorities=priority or (),
        site=site,
        area=area,
        device=device,
        rule=rule,
        text=q,
        since=None if since is None else instant(since),
        until=None if until is None else instant(until),
    )
    behind = cursor.decode(after, [int] * 4)
    page = ctx.pool.run(
        lambda connection: api_queries.page(
            connection,
            selection,
            by_number=order == "number",
            after=None if behind is None else tuple(behind),  # type: ignore[arg-type]  # four whole numbers
            limit=limit,
        )
    )
    return schemas.AlarmPage(items=[schemas.Alarm.of(alarm) for alarm in page.alarms], next=cursor.encode(page.next))


@router.get("/alarms/summary")
def summarise_alarms(ctx: Ctx, _: Viewer, site: Name | None = None) -> schemas.AlarmSummary:
    """How many alarms are open and how many of them nobody has acknowledged."""
    found = ctx.pool.run(lambda connection: api_queries.counts(connection, site))
    open_, unacknowledged = dict.fromkeys(Priority, 0), dict.fromkeys(Priority, 0)
    for (priority, state), number in found.open.items():
        open_[Priority(priority)] += number
        if state in (AlarmState.UNACKNOWLEDGED, AlarmState.RETURNED_UNACKNOWLEDGED):
            unacknowledged[Priority(priority)] += number
    return schemas.AlarmSummary(open=open_, unacknowledged=unacknowledged, suppressed=found.suppressed)


@router.post("/alarms/acknowledge")
def acknowledge_alarms(ctx: Ctx, who: Operator, body: schemas.Acknowledging) -> schemas.Outcome:
    """Somebody has seen these alarms and knows what to do."""
    return _acknowledge(ctx, who, body.alarms, body.comment)


@router.post("/alarms/reset")
def reset_alarms(ctx: Ctx, who: Operator, body: schemas.Resetting) -> schemas.Outcome:
    """Release latched alarms after their causes are mended."""
    return _reset(ctx, who, body.alarms, body.comment)


@router.post("/alarms/comment")
def comment_alarms(ctx: Ctx, who: Operator, body: schemas.Remarks) -> schemas.Outcome:
    """Add a remark to the journal of each."""
    return _comment(ctx, who, body.alarms, body.comment)


@router.post("/alarms/shelve")
def shelve_alarms(ctx: Ctx, who: Operator, body: schemas.ShelvingMany) -> schemas.Outcome:
    """Keep the rules of these alarms on their devices quiet for a time; they are judged and written down as ever."""
    return _shelve(ctx, who, body.alarms, body)


@router.get("/alarms/{number}")
def show_alarm(ctx: Ctx, _: Viewer, number: AlarmNumber) -> schemas.AlarmInFull:
    """One alarm with every line of its journal."""

    def work(connection: Connection) -> tuple[list[ListedAlarm], list[lifecycle.JournalLine]]:
        return api_queries.by_numbers(connection, [number]), lifecycle.lines(connection, number)

    found, lines = ctx.pool.run(work)
    if not found:
        raise Problem(404, _GONE)
    return schemas.AlarmInFull(alarm=schemas.Alarm.of(found[0]), journal=[schemas.Line.of(line) for line in lines])


@router.post("/alarms/{number}/acknowledge")
def acknowledge_alarm(ctx: Ctx, who: Operator, number: AlarmNumber, body: schemas.Comments) -> schemas.Alarm:
    """Somebody has seen this alarm and knows what to do; 409 where somebody had before."""
    return _one(ctx, number, lambda: _acknowledge(ctx, who, [number], body.comment))


@router.post("/alarms/{number}/reset")
def reset_alarm(ctx: Ctx, who: Operator, number: AlarmNumber, body: schemas.Comments) -> schemas.Alarm:
    """Release a latched alarm; 409 where it is not latched."""
    return _one(ctx, number, lambda: _reset(ctx, who, [number], body.comment))


@router.post("/alarms/{number}/comment")
def comment_alarm(ctx: Ctx, who: Operator, number: AlarmNumber, body: schemas.Remark) -> schemas.Alarm:
    """Add a remark to its journal."""
    return _one(ctx, number, lambda: _comment(ctx, who, [number], body.comment))


@router.post("/alarms/{number}/shelve")
def shelve_alarm(ctx: Ctx, who: Operator, number: AlarmNumber, body: schemas.Shelving) -> schemas.Alarm:
    """Keep its rule on its device quiet for a time."""
    return _one(ctx, number, lambda: _shelve(ctx, who, [number], body))


@router.get("/suppressions")
def list_suppressions(ctx: Ctx, _: Viewer, site: Name | None = None) -> schemas.Suppressions:
    """What is shelved, suppressed or out of service now: by whom, until when and why."""
    found = ctx.pool.run(lambda connection: api_queries.suppressions(connection, site))
    return schemas.Suppressions(
        items=[
            schemas.Suppression(
                kind=one.kind,
                rule=one.rule,
                title=one.title,
                device=one.device,
                tag=one.tag,
                site=one.site,
                one_shot=one.one_shot,
                began_at=one.began_at,
                until=one.until,
                by=one.by,
                reason=one.reason,
            )
            for one in found
        ]
    )


@router.post("/suppressions")
def suppress(ctx: Ctx, who: Operator, body: schemas.Suppressing) -> schemas.Suppressions:
    """Shelve a rule of a device (operators), suppress it by design or take the device out of service (engineers)."""
    kind = SuppressionKind(body.kind)
    _may(ctx, who, kind, body.device)
    now = ctx.ports.now()
    until = None if body.length is None else now + parse_duration(body.length)
    suppression = words.Suppression(kind, body.rule, body.device, until, body.reason, who.name, body.one_shot)

    def work(connection: Connection) -> None:
        _check(suppression, now)
        if not lifecycle.suppress(connection, suppression):
            raise RefusedError("there is no device of this identity")

    write(ctx, who, f"alarm.{kind.value}", body.device, body.model_dump(exclude={"kind", "device"}), work)
    return _of_device(ctx, body.device)


@router.post("/suppressions/release")
def release(ctx: Ctx, who: Operator, body: schemas.Releasing) -> schemas.Suppressions:
    """End a suppression before its time; gives what remains of the device."""
    kind = SuppressionKind(body.kind)
    _may(ctx, who, kind, body.device)

    def work(connection: Connection) -> None:
        if not lifecycle.release(connection, kind, body.rule, body.device, who.name, body.reason):
            raise RefusedError("there is no such suppression (any more)")

    write(ctx, who, f"alarm.end_{kind.value}", body.device, body.model_dump(include={"rule", "reason"}), work)
    return _of_device(ctx, body.device)


def _may(ctx: Context, who: Principal, kind: SuppressionKind, device: str) -> None:
    if kind is not SuppressionKind.SHELVED and not who.role.covers(Role.ENGINEER):
        note(ctx, who, f"alarm.{kind.value}", device, {"needs": Role.ENGINEER.value}, "denied")
        raise Problem(403, f"this needs the role engineer; yours is {who.role.value}")


def _check(suppression: words.Suppression, now: Instant) -> None:
    kind, rule, until = suppression.kind, suppression.rule, suppression.until
    if kind is SuppressionKind.SHELVED:
        if rule is None or until is None:
            raise LifecycleError("shelving is for one rule and for a time: give `rule` and `length`")
        steps.check_shelving(now, until, suppression.reason)
    elif kind is SuppressionKind.OUT_OF_SERVICE and (rule is not None or until is not None):
        raise LifecycleError("a device is out of service with every rule, until it is put into service again")
    if suppression.one_shot and kind is not SuppressionKind.SHELVED:
        raise LifecycleError("only shelving can be one-shot")


def _of_device(ctx: Context, device: str) -> schemas.Suppressions:
    found = ctx.pool.run(api_queries.suppressions)
    return schemas.Suppressions(
        items=[schemas.Suppression.model_validate(one, from_attributes=True) for one in found if one.device == device]
    )


def _acknowledge(ctx: Context, who: Principal, numbers: Sequence[int], comment: str) -> schemas.Outcome:
    def work(connection: Connection) -> schemas.Outcome:
        done = lifecycle.acknowledge(connection, numbers, who.name, comment)
        known = {alarm.number for alarm in api_queries.by_numbers(connection, numbers)}
        return _outcome(numbers, done, lambda n: "it was acknowledged before" if n in known else _GONE)

    return _written(ctx, who, "alarm.acknowledge", numbers, {"comment": comment}, work)


def _reset(ctx: Context, who: Principal, numbers: Sequence[int], comment: str) -> schemas.Outcome:
    def work(connection: Connection) -> schemas.Outcome:
        known = {alarm.number: alarm for alarm in api_queries.by_numbers(connection, numbers)}
        done = [n for n in dict.fromkeys(numbers) if n in known and lifecycle.reset(connection, n, who.name, comment)]
        return _outcome(numbers, done, lambda n: _why_not_reset(known.get(n)))

    return _written(ctx, who, "alarm.reset", numbers, {"comment": comment}, work)


def _why_not_reset(alarm: ListedAlarm | None) -> str:
    if alarm is None:
        return _GONE
    try:
        steps.check_reset(alarm.state)
    except LifecycleError as error:
        return str(error)
    return "it has changed meanwhile; look again"


def _comment(ctx: Context, who: Principal, numbers: Sequence[int], text: str) -> schemas.Outcome:
    def work(connection: Connection) -> schemas.Outcome:
        done = [n for n in dict.fromkeys(numbers) if lifecycle.comment(connection, n, who.name, text)]
        return _outcome(numbers, done, lambda _: _GONE)

    return _written(ctx, who, "alarm.comment", numbers, {"comment": text}, work)


def _shelve(ctx: Context, who: Principal, numbers: Sequence[int], body: schemas.Shelving) -> schemas.Outcome:
    now = ctx.ports.now()
    until = now + parse_duration(body.length)

    def work(connection: Connection) -> schemas.Outcome:
        steps.check_shelving(now, until, body.reason)
        known = {alarm.number: alarm for alarm in api_queries.by_numbers(connection, numbers)}
        for rule, device in dict.fromkeys((alarm.rule, alarm.device) for alarm in known.values()):
            lifecycle.suppress(
                connection,
                words.Suppression(SuppressionKind.SHELVED, rule, device, until, body.reason, who.name, body.one_shot),
            )
        return _outcome(numbers, sorted(known), lambda _: _GONE)

    detail = {"reason": body.reason, "length": body.length, "one_shot": body.one_shot}
    return _written(ctx, who, "alarm.shelve", numbers, detail, work)


def _outcome(numbers: Sequence[int], done: Sequence[int], why: Callable[[int], str]) -> schemas.Outcome:
    left = [number for number in dict.fromkeys(numbers) if number not in set(done)]
    return schemas.Outcome(done=list(done), refused=[schemas.Refusal(alarm=number, why=why(number)) for number in left])


def _written(
    ctx: Context,
    who: Principal,
    action: str,
    numbers: Sequence[int],
    detail: dict[str, object],
    work: Callable[[Connection], schemas.Outcome],
) -> schemas.Outcome:
    """With a line in the audit trail that says which alarms were meant."""
    target = str(numbers[0]) if len(numbers) == 1 else f"{len(numbers)} alarms"
    return write(ctx, who, action, target, {**detail, "alarms": list(numbers)}, work)


def _one(ctx: Context, number: int, step: Callable[[], schemas.Outcome]) -> schemas.Alarm:
    outcome = step()
    if outcome.refused:
        why = outcome.refused[0].why
        raise Problem(404 if why == _GONE else 409, why)
    return schemas.Alarm.of(ctx.pool.run(lambda connection: api_queries.by_numbers(connection, [number]))[0])

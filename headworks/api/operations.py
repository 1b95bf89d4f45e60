"""`/quarantine`, `/rules`, `/health` and `/kpis`: how the platform and the alarm system themselves fare."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from devices.alarm import Priority
from devices.model import SECOND, Reason, moment
from headworks.api import cursor
from headworks.api.access import Engineer, Viewer
from headworks.api.context import Ctx
from headworks.api.problems import Problem
from headworks.api.schemas import operations as schemas
from headworks.api.schemas.alarms import Guidance
from headworks.api.schemas.fields import Name
from storage import api_queries, api_queries_plant, quarantine
from storage.database import Connection

router = APIRouter(tags=["operations"])


@router.get("/quarantine")
def list_quarantine(
    ctx: Ctx,
    _: Viewer,
    *,
    device: Annotated[Name | None, Query(description="Identity")] = None,
    reason: Reason | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: Annotated[cursor.CursorText | None, Query(alias="cursor")] = None,
) -> schemas.QuarantinePage:
    """What could not be stored and why, without payloads, the newest first."""
    behind = cursor.decode(after, [int])
    rows, following = ctx.pool.run(
        lambda connection: api_queries_plant.quarantine(
            connection, identity=device, reason=None if reason is None else reason.value,
            before=None if behind is None else int(behind[0]), limit=limit,
        )
    )  # fmt: skip
    return schemas.QuarantinePage(
        items=[schemas.Quarantined.model_validate(row, from_attributes=True) for row in rows],
        next=cursor.encode(None if following is None else (following,)),
    )


@router.get("/quarantine/{number}")
def show_quarantined(ctx: Ctx, _: Engineer, number: Annotated[int, Path(ge=1, lt=2**63)]) -> schemas.QuarantinedInFull:
    """One record with its payload as it came."""
    found = ctx.pool.run(lambda connection: quarantine.one(connection, number))
    if found is None:
        raise Problem(404, "there is no record of this number (any more)")
    uplink = found.uplink
    return schemas.QuarantinedInFull(
        number=found.number,
        received_at=moment(uplink.received_at),
        reason=found.reason.value,
        detail=found.detail,
        identity=found.identity,
        transport=uplink.transport.value,
        source=uplink.source,
        content_format=uplink.content_format,
        payload_hex=uplink.payload.hex(),
    )


@router.get("/rules")
def list_rules(ctx: Ctx, _: Viewer) -> schemas.Rules:
    """The rules in use, which of them cannot be calculated or have nothing to judge, and how often each has called."""
    counts = ctx.pool.run(api_queries.rule_counts)
    failing, idle = ctx.ports.failing(), ctx.ports.idle()
    return schemas.Rules(
        items=[
            schemas.RuleEntry(
                rule=rule.rule,
                title=rule.title,
                priority=rule.priority,
                severity=rule.severity,
                alarm_class=rule.alarm_class.value,
                condition=" ".join(rule.condition.split()),
                metric=rule.shown_metric,
                unit=rule.shown_unit,
                on_delay_seconds=rule.on_delay / SECOND,
                off_delay_seconds=rule.off_delay / SECOND,
                time_to_respond_seconds=rule.guidance.time_to_respond / SECOND,
                latching=rule.latching,
                guidance=Guidance.model_validate(rule.guidance, from_attributes=True),
                failing=failing.get(rule.rule),
                idle=[
                    schemas.IdleRule(why=why, device=first) for why, first in sorted(idle.get(rule.rule, {}).items())
                ],
                open=counts.get(rule.rule, (0, 0))[0],
                last_30_days=counts.get(rule.rule, (0, 0))[1],
            )
            for rule in sorted(ctx.ports.rules(), key=lambda rule: rule.rule)
        ]
    )


@router.get("/health")
def health(ctx: Ctx, _: Viewer) -> schemas.Health:
    """The state of each part of the platform: `ok`, or what is wrong with it."""
    parts = ctx.ports.health()
    return schemas.Health(status="ok" if all(part == "ok" for part in parts.values()) else "degraded", parts=parts)


@router.get("/platform/alarms")
def platform_alarms(ctx: Ctx, _: Viewer) -> schemas.PlatformAlarms:
    """What is wrong with the platform itself: dead letters, outages of whole paths, rules that cannot be calculated,
    parts that are not well. They are no alarms of a device, need no acknowledgement, and go when their cause does."""

    def work(connection: Connection) -> tuple[list[api_queries.FailingChannel], list[api_queries_plant.OutageRow]]:
        return api_queries.failing_channels(connection), api_queries_plant.outages(connection)

    channels, outages = ctx.pool.run(work)
    found = [
        schemas.PlatformAlarm(
            kind="channel", name=one.channel, priority=Priority.HIGH, count=one.letters, since=one.since,
            message=f"{one.letters} notifications could not be delivered by {one.channel}",
        )
        for one in channels
    ]  # fmt: skip
    found += [
        schemas.PlatformAlarm(
            kind="path", name=one.path, priority=Priority.HIGH, count=one.devices, since=one.since,
            message=f"none of {one.devices} devices is heard by {one.path}",
        )
        for one in outages
        if one.ended_at is None
    ]  # fmt: skip
    found += [
        schemas.PlatformAlarm(kind="rule", name=rule, priority=Priority.MEDIUM, count=None, since=None, message=why)
        for rule, why in sorted(ctx.ports.failing().items())
    ]
    found += [
        schemas.PlatformAlarm(kind="part", name=part, priority=Priority.MEDIUM, count=None, since=None, message=state)
        for part, state in ctx.ports.health().items()
        if state != "ok" and part not in ("rules", "announcements")  # they are told above, one by one
    ]
    return schemas.PlatformAlarms(items=found)


@router.get("/kpis")
def kpis(ctx: Ctx, _: Viewer) -> schemas.Kpis:
    """How well the alarm system does its work (ISA-18.2, EEMUA 191), over the last 30 days."""

    def work(
        connection: Connection,
    ) -> tuple[list[api_queries.Kpi], list[api_queries.Frequent], list[api_queries.Chattering]]:
        return api_queries.kpis(connection), api_queries.most_frequent(connection), api_queries.chattering(connection)

    sites, frequent, chattering = ctx.pool.run(work)
    return schemas.Kpis(
        sites=[
            schemas.SiteKpi(
                site=one.site,
                alarms=one.alarms,
                alarms_per_10min=one.per_10min,
                most_per_10min=one.most_per_10min,
                flood_share=one.flood_share,
                top10_share=one.top10_share,
                chattering=one.chattering,
                stale=one.stale,
                seconds_to_acknowledge=one.seconds_to_acknowledge,
                unacknowledged=one.unacknowledged,
                priority_shares=one.shares,  # type: ignore[arg-type]  # pydantic makes priorities of the keys
            )
            for one in sites
        ],
        most_frequent=[schemas.FrequentAlarm.model_validate(one, from_attributes=True) for one in frequent],
        chattering=[schemas.ChatteringAlarm.model_validate(one, from_attributes=True) for one in chattering],
    )

"""`/sites`, `/assets`, `/devices` and `/contact`: what there is, how it is, what it measured, who is heard of."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime

from alerts.bands import bands
from devices.metrics import CATALOGUE
from devices.model import DAY, instant, moment
from headworks.api import cursor
from headworks.api.access import Viewer
from headworks.api.context import Ctx
from headworks.api.problems import Problem
from headworks.api.schemas import plant as schemas
from headworks.api.schemas.fields import Name
from storage import api_queries_plant as queries
from storage import registry
from storage.database import Connection
from storage.registry import Registered

router = APIRouter(tags=["plant"])

Identity = Annotated[Name, Path(description="The device's identity, as urn:dev:imei:867000000000017")]
ContactState = Annotated[str, Query(pattern=f"^({'|'.join(queries.CONTACT_STATES)})$")]


@router.get("/sites")
def list_sites(ctx: Ctx, _: Viewer) -> schemas.Sites:
    """Every site with how many of its assets need somebody."""
    return schemas.Sites(
        items=[
            schemas.Site(
                site=row.site,
                time_zone=row.time_zone or ctx.ports.time_zone,
                assets=row.assets,
                alarmed=row.alarmed,
                unacknowledged=row.unacknowledged,
                priority=row.priority,  # type: ignore[arg-type]  # pydantic makes it one
                not_heard=row.not_heard,
            )
            for row in ctx.pool.run(queries.sites)
        ]
    )


@router.get("/assets")
def list_assets(
    ctx: Ctx,
    _: Viewer,
    *,
    site: Name | None = None,
    area: Name | None = None,
    q: Annotated[Name | None, Query(description="A part of tag, identity or profile")] = None,
    limit: Annotated[int, Query(ge=1, le=2000)] = 1000,
    after: Annotated[cursor.CursorText | None, Query(alias="cursor")] = None,
) -> schemas.AssetPage:
    """Assets by site, area and tag, and how each of them is."""
    behind = cursor.decode(after, [str] * 4)
    rows, following = ctx.pool.run(
        lambda connection: queries.assets(
            connection, site=site, area=area, text=q,
            after=None if behind is None else tuple(behind),  # type: ignore[arg-type]  # four texts
            limit=limit,
        )
    )  # fmt: skip
    return schemas.AssetPage(
        items=[schemas.Asset.model_validate(row, from_attributes=True) for row in rows], next=cursor.encode(following)
    )


@router.get("/devices/{identity}")
def show_device(ctx: Ctx, _: Viewer, identity: Identity) -> schemas.Device:
    """A device's entry in the registry, what its profile measures, and when it was last heard."""

    def work(connection: Connection) -> tuple[Registered, queries.DeviceFacts, dict[str, str]] | None:
        entry = registry.find(connection, [identity]).get(identity)
        if entry is None:
            return None
        return entry, queries.facts(connection, entry.device_id, identity), queries.time_zones(connection)

    found = ctx.pool.run(work)
    if found is None:
        raise _unknown()
    entry, facts, zones = found
    device = entry.device
    profile = ctx.ports.profiles.get(device.profile)
    names = sorted(profile.metrics) if profile is not None else []
    return schemas.Device(
        number=entry.device_id,
        identity=device.identity,
        tag=device.tag,
        site=device.site,
        area=device.area,
        unit=device.unit,
        kind=facts.kind,
        profile=device.profile,
        manufacturer=device.manufacturer,
        model=device.model,
        serial=device.serial,
        gateway=device.gateway,
        status=device.status.value,
        design=dict(device.design),
        calibrations=[
            schemas.Calibration(metric=metric, since=moment(step.since), gain=step.gain, offset=step.offset)
            for metric, steps in sorted(device.calibrations.items())
            for step in steps
        ],
        metrics=[
            schemas.Metric(name=name, unit=CATALOGUE[name].unit, description=CATALOGUE[name].description)
            for name in names
        ],
        time_zone=zones.get(device.site, ctx.ports.time_zone),
        report_interval_seconds=facts.report_interval.total_seconds(),
        registered_at=facts.registered_at,
        contact=facts.contact,
        contact_since=facts.contact_since,
        heard_at=facts.heard_at,
        transport=facts.transport,
        credentials=facts.credentials,
        quarantined=facts.quarantined,
    )


@router.get("/devices/{identity}/latest")
def latest_values(ctx: Ctx, _: Viewer, identity: Identity) -> schemas.LatestValues:
    """The newest reading of each metric by sample time, with its quality."""

    def work(connection: Connection) -> list[registry.Latest]:
        return registry.latest(connection, _registered(connection, identity).device_id)

    return schemas.LatestValues(
        device=identity,
        items=[
            schemas.Latest(
                metric=one.metric,
                value=one.value,
                unit=one.unit,
                quality=int(one.quality),
                status=schemas.status(one.quality),
                ne107=one.quality.ne107.value,
                measured_at=one.measured_at,
            )
            for one in ctx.pool.run(work)
        ],
    )


@router.get("/devices/{identity}/series")
def series(
    ctx: Ctx,
    _: Viewer,
    identity: Identity,
    metric: Name,
    *,
    since: Annotated[AwareDatetime | None, Query(description="A day before `until` if not given")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Now if not given")] = None,
    points: Annotated[int, Query(ge=2, le=5000, description="How many points at the most")] = 500,
) -> schemas.Series:
    """A trend with no more points than asked for: readings, or averages with the least and greatest of each bucket."""
    known = CATALOGUE.get(metric)
    if known is None:
        raise Problem(404, "there is no metric of this name; `GET /devices/{identity}` lists a device's")
    end = ctx.ports.now() if until is None else instant(until)
    begin = end - DAY if since is None else instant(since)
    if begin >= end:
        raise Problem(409, "`since` must lie before `until`")
    found = ctx.pool.run(
        lambda connection: queries.series(
            connection, _registered(connection, identity).device_id, metric, begin, end, points
        )
    )
    raw = found.width is None
    return schemas.Series(
        device=identity,
        metric=metric,
        unit=known.unit,
        aggregated=not raw,
        width_seconds=None if found.width is None else found.width / 1e6,
        at=[point.at for point in found.points],
        value=[point.value for point in found.points],
        quality=[point.quality or 0 for point in found.points] if raw else None,
        least=None if raw else [_number(point.least) for point in found.points],
        greatest=None if raw else [_number(point.greatest) for point in found.points],
        readings=None if raw else [point.readings for point in found.points],
    )


@router.get("/devices/{identity}/limits")
def limits(ctx: Ctx, _: Viewer, identity: Identity) -> schemas.Limits:
    """Where the limits of alarm rules lie on this device now."""
    device = ctx.pool.run(lambda connection: _registered(connection, identity)).device
    profile = ctx.ports.profiles.get(device.profile)
    if profile is None:
        return schemas.Limits(items=[])
    found = bands(ctx.ports.rules(), device, profile, ctx.ports.now())
    return schemas.Limits(items=[schemas.Limit.of_band(band) for band in found])


@router.get("/contact")
def list_contacts(
    ctx: Ctx,
    _: Viewer,
    *,
    state: Annotated[list[ContactState] | None, Query(description="All states if not given")] = None,
    site: Name | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    after: Annotated[cursor.CursorText | None, Query(alias="cursor")] = None,
) -> schemas.ContactPage:
    """Who is heard of and who is not, and why: the gravest first."""
    behind = cursor.decode(after, [int, str, str, str])
    rows, following = ctx.pool.run(
        lambda connection: queries.contacts(
            connection, states=state or queries.CONTACT_STATES, site=site,
            after=None if behind is None else tuple(behind),  # type: ignore[arg-type]  # a number and three texts
            limit=limit,
        )
    )  # fmt: skip
    return schemas.ContactPage(
        items=[
            schemas.Contact(
                identity=row.identity,
                tag=row.tag,
                site=row.site,
                area=row.area,
                profile=row.profile,
                gateway=row.gateway,
                state=row.state,
                since=row.since,
                heard_at=row.heard_at,
                transport=row.transport,
                report_interval_seconds=row.report_interval.total_seconds(),
                words=row.words,
            )
            for row in rows
        ],
        next=cursor.encode(following),
    )


@router.get("/fleet")
def fleet(ctx: Ctx, _: Viewer, site: Name | None = None) -> schemas.Fleet:
    """How many devices are in which state of contact, and outages of whole paths, those that are not over first."""

    def work(connection: Connection) -> tuple[dict[str, int], list[queries.OutageRow]]:
        return queries.contact_counts(connection, site), queries.outages(connection)

    counts, outages = ctx.pool.run(work)
    return schemas.Fleet(
        counts=counts, outages=[schemas.Outage.model_validate(one, from_attributes=True) for one in outages]
    )


def _registered(connection: Connection, identity: str) -> Registered:
    entry = registry.find(connection, [identity]).get(identity)
    if entry is None:
        raise _unknown()
    return entry


def _unknown() -> Problem:
    return Problem(404, "no device of this identity is registered; `GET /assets` lists those that are")


def _number(value: float | None) -> float:
    assert value is not None
    return value

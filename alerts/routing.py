"""Who is told what: the routing file, and how an announcement finds its way through it. Pure.

Everything that can be wrong with the file is found when it is read, with file, line and column. What is held back,
grouped and told again later is decided in `alerts.dispatch`; how a channel sends is in `alerts.channels`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple

from pydantic import Field, field_validator, model_validator

from alerts.messages import languages
from alerts.roster import Holiday, Hours, Roster, Zone, on_duty, until
from alerts.rules import AlarmClass
from devices.alarm import Priority
from devices.document import DocumentError, DocumentModel, Positions, load_yaml, suggest, validate
from devices.duration import Duration, format_duration
from devices.model import MINUTE, SECOND, Instant

Told = Mapping[str, Any]
"""An announcement as `alerts.announcement.render` gives it."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TOPIC_FIELDS = {"site", "area", "unit", "tag", "priority", "rule", "event"}
RESERVED = ("webhook", "dispatch")
"""Channels of the outbox that no file may name: the webhook of the settings, and what is not routed yet."""
PLATFORM = "system"
"""The class of what the platform says of itself."""
FAILED = "channel-failed"
"""The rule of what it says of a channel with dead letters."""

Language = Annotated[str, Field(description="Of the messages: a file in alerts/templates")]


def _language(name: str | None) -> str | None:
    if name is not None and name not in languages():
        raise ValueError(
            f"there are no messages in ‘{name}’{suggest(name, languages())}; there are {', '.join(languages())}"
        )
    return name


class ChannelEntry(DocumentModel):
    """One way to send: exactly one of `apprise`, `webhook` and `mqtt`. Secrets are written as ${VARIABLE}."""

    apprise: str | None = Field(default=None, min_length=1, description="An Apprise URL: e-mail, chat, SMS gateway …")
    webhook: str | None = Field(default=None, min_length=1, description="An http or https URL; JSON is posted to it")
    secret: str | None = Field(default=None, min_length=1, description="Signs what is posted to the webhook")
    mqtt: str | None = Field(
        default=None,
        min_length=1,
        description="A topic at the platform's broker; {site}, {area}, {priority} … are filled",
    )
    language: Language | None = Field(default=None, description="In place of the site's")

    _language_is_there = field_validator("language")(_language)

    @field_validator("mqtt")
    @classmethod
    def _topic_fits(cls, topic: str | None) -> str | None:
        if topic is not None:
            if set(topic) & {"+", "#"}:
                raise ValueError("a topic to publish on has no wildcards (+, #)")
            for name in re.findall(r"\{([^{}]*)\}", topic):
                if name not in _TOPIC_FIELDS:
                    raise ValueError(f"{{{name}}} is not known{suggest(name, sorted(_TOPIC_FIELDS))}")
        return topic

    @model_validator(mode="after")
    def _one_way(self) -> ChannelEntry:
        if sum(way is not None for way in (self.apprise, self.webhook, self.mqtt)) != 1:
            raise ValueError("write exactly one of apprise, webhook and mqtt")
        if self.secret is not None and self.webhook is None:
            raise ValueError("a secret signs webhooks only")
        return self


class SiteEntry(DocumentModel):
    """What is particular to a site."""

    zone: Zone | None = None
    language: Language | None = None
    holidays: tuple[Holiday, ...] = ()

    _language_is_there = field_validator("language")(_language)


class Match(DocumentModel):
    """Which announcements: each that is given must fit; texts may hold the wildcards * and ?."""

    sites: tuple[str, ...] | None = Field(default=None, min_length=1)
    areas: tuple[str, ...] | None = Field(default=None, min_length=1)
    units: tuple[str, ...] | None = Field(default=None, min_length=1)
    assets: tuple[str, ...] | None = Field(default=None, min_length=1, description="Tags, or devices' identities")
    classes: tuple[str, ...] | None = Field(default=None, min_length=1, description="Classes of rules, and system")
    priorities: tuple[Priority, ...] | None = Field(default=None, min_length=1)
    rules: tuple[str, ...] | None = Field(default=None, min_length=1)

    @field_validator("classes")
    @classmethod
    def _known_classes(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = (*AlarmClass, PLATFORM)
        for name in classes or ():
            if name not in known:
                raise ValueError(f"‘{name}’ is no class{suggest(name, known)}; there are {', '.join(known)}")
        return classes

    def why_not(self, told: Told) -> str | None:
        """Why it does not fit; None where it does."""
        device = told["device"]
        has: dict[str, tuple[Sequence[str] | None, tuple[str, ...]]] = {
            "site": (self.sites, (device["site"],)),
            "area": (self.areas, (device["area"],)),
            "unit": (self.units, (device["unit"],)),
            "asset": (self.assets, (device["tag"], device["identity"])),
            "class": (self.classes, (told.get("class") or PLATFORM,)),
            "priority": (self.priorities, (told["priority"],)),
            "rule": (self.rules, (told["rule"],)),
        }
        for what, (wanted, values) in has.items():
            if wanted is not None and not any(fnmatchcase(value, want) for value in values for want in wanted):
                return f"its {what} is {next(filter(None, values), 'not known')}, not {' or '.join(wanted)}"
        return None


class Quiet(Hours):
    """Hours in which some priorities wait for the end of the quiet."""

    priorities: tuple[Priority, ...] = Field(default=(Priority.LOW,), min_length=1)


class Escalation(DocumentModel):
    """Whom else to tell where nobody has acknowledged."""

    to: tuple[str, ...] = Field(min_length=1, description="Receivers, rosters or channels")
    after: Duration | None = Field(
        default=None, description="After the step before; the rule's time to respond if absent"
    )

    @field_validator("after")
    @classmethod
    def _not_at_once(cls, after: Instant | None) -> Instant | None:
        if after is not None and after < SECOND:
            raise ValueError("give people at least a second")
        return after


class Grouping(DocumentModel):
    """One message for a storm: so many at once in a window, the rest together at its end."""

    by: tuple[str, ...] = Field(
        default=("site",), description="What a group has in common: site, area, unit, rule, priority"
    )
    at_once: int = Field(default=5, ge=1, le=1000)
    window: Duration = Field(default=MINUTE, ge=SECOND)

    @field_validator("by")
    @classmethod
    def _known(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        known = ("site", "area", "unit", "rule", "priority")
        for name in by:
            if name not in known:
                raise ValueError(f"‘{name}’ is nothing to group by{suggest(name, known)}; there are {', '.join(known)}")
        return by

    def key(self, told: Told) -> str:
        """Which group an announcement belongs to."""
        return json.dumps([told["device"].get(name, told.get(name)) for name in self.by], ensure_ascii=False)


class Route(DocumentModel):
    """Where what fits goes. The first route that fits takes it, and no other, unless it says `continue`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    match: Match = Match()
    to: tuple[str, ...] = Field(min_length=1, description="Receivers, rosters or channels")
    escalate: tuple[Escalation, ...] = Field(default=(), description="Who comes next while nobody acknowledges")
    repeat: Duration | None = Field(default=None, ge=MINUTE, description="Tell again so often until it is acknowledged")
    returns: bool = Field(default=True, description="Tell those who heard of an alarm when it is back to normal")
    quiet: tuple[Quiet, ...] = ()
    group: Grouping = Grouping()
    go_on: bool = Field(default=False, alias="continue", description="Let the routes below have it too")


class Inhibition(DocumentModel):
    """What need not be told while something else is on that explains it."""

    when: Match = Field(description="The alarm that explains")
    hold: Match = Field(description="What is held back meanwhile")
    same: tuple[str, ...] = Field(default=("site",), description="What both have in common: site, area, unit")

    @field_validator("same")
    @classmethod
    def _known(cls, same: tuple[str, ...]) -> tuple[str, ...]:
        for name in same:
            if name not in ("site", "area", "unit"):
                raise ValueError(
                    f"‘{name}’ is no place{suggest(name, ('site', 'area', 'unit'))}; write site, area or unit"
                )
        return same

    def explains(self, source: Told, told: Told) -> bool:
        """Whether `source`, which is on, explains `told`."""
        subject, cause = (told["rule"], told["device"]["identity"]), (source["rule"], source["device"]["identity"])
        return (
            subject != cause
            and self.when.why_not(source) is None
            and self.hold.why_not(told) is None
            and all(source["device"][name] == told["device"][name] for name in self.same)
        )


class Routing(DocumentModel):
    """A routing file."""

    zone: Zone = Field(default="UTC", description="The time zone of what has none of its own")
    language: Language = "en"
    link: str = Field(default="", description="Put into messages; {rule}, {device}, {tag} and {site} are filled")
    holidays: tuple[Holiday, ...] = ()
    sites: dict[str, SiteEntry] = Field(default_factory=dict)
    channels: dict[str, ChannelEntry] = Field(min_length=1)
    receivers: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="People and rooms: their channels")
    rosters: dict[str, Roster] = Field(default_factory=dict)
    routes: tuple[Route, ...] = Field(min_length=1)
    inhibit: tuple[Inhibition, ...] = ()

    _language_is_there = field_validator("language")(_language)

    def zone_of(self, told: Told) -> str:
        """The time zone of the place that an announcement is about."""
        site = self.sites.get(told["device"]["site"])
        return (site.zone if site else None) or self.zone

    def language_of(self, channel: str, told: Told) -> str:
        """In which language a channel tells it."""
        entry = self.channels.get(channel)
        site = self.sites.get(told["device"]["site"])
        return (entry.language if entry else None) or (site.language if site else None) or self.language

    def route(self, name: str) -> Route | None:
        """The route of a name, if the file has it still."""
        return next((route for route in self.routes if route.name == name), None)


class Tried(NamedTuple):
    """A route that was looked at: why it does not fit, or None where it takes the announcement."""

    route: Route
    why_not: str | None


def routes_for(routing: Routing, told: Told) -> list[Tried]:
    """The routes that an announcement comes by, in order, up to the one that keeps it."""
    tried = []
    for route in routing.routes:
        tried.append(Tried(route, route.match.why_not(told)))
        if tried[-1].why_not is None and not route.go_on:
            break
    return tried


def channels_for(routing: Routing, names: Iterable[str], told: Told, now: Instant) -> dict[str, str]:
    """The channels that names stand for at a moment, each once, and why.

    What is told of a channel's own failure goes by the others, by all of them where none is left.
    """
    found: dict[str, str] = {}
    for name in names:
        for channel, why in _channels(routing, name, told, now):
            found.setdefault(channel, why)
    if told["rule"] == FAILED and (failed := told["device"]["identity"]) in found:
        del found[failed]
        if not found:
            found = {name: f"as {failed} failed" for name in routing.channels if name != failed}
    return found


def _channels(routing: Routing, name: str, told: Told, now: Instant) -> Iterator[tuple[str, str]]:
    if name in routing.channels:
        yield name, name
    elif name in routing.receivers:
        for channel in routing.receivers[name]:
            yield channel, f"{name}"
    elif name in routing.rosters:
        site = routing.sites.get(told["device"]["site"])
        holidays = {*routing.holidays, *(site.holidays if site else ())}
        people, why = on_duty(routing.rosters[name], now, routing.zone_of(told), holidays)
        for person in people:
            for channel, _ in _channels(routing, person, told, now):
                yield channel, f"{person}, roster {name}: {why}"


def quiet_until(routing: Routing, route: Route, told: Told, now: Instant) -> Instant | None:
    """Until when it is quiet for this priority on this route; None where it is not."""
    site = routing.sites.get(told["device"]["site"])
    holidays = {*routing.holidays, *(site.holidays if site else ())}
    ends = [
        end
        for quiet in route.quiet
        if told["priority"] in quiet.priorities
        and (end := until(quiet, now, routing.zone_of(told), holidays)) is not None
    ]
    return max(ends, default=None)


def explained_by(routing: Routing, told: Told, on: Iterable[Told]) -> Told | None:
    """The alarm among those that are on for which this one is held back; None where there is none."""
    return next((source for source in on for one in routing.inhibit if one.explains(source, told)), None)


def may_explain(routing: Routing, told: Told) -> bool:
    """Whether others may be held back because of this one."""
    return any(one.when.why_not(told) is None for one in routing.inhibit)


def load_routing(text: str, source: str, environment: Mapping[str, str]) -> Routing:
    """Read a routing file, ${VARIABLE} in channels filled from `environment`; `DocumentError` with every problem."""
    root, positions = load_yaml(text, source)
    routing = validate(root, positions, Routing)
    problems = [*_names(routing, positions), *_catch_all(routing, positions)]
    filled: dict[str, ChannelEntry] = {}
    for name, entry in routing.channels.items():
        values = entry.model_dump()
        for field in ("apprise", "webhook", "secret"):
            if values[field] is None:
                continue
            for variable in _VARIABLE.findall(values[field]):
                if not environment.get(variable):
                    where = positions.locate(["channels", name, field])
                    problems.append(f"{where}: the environment variable {variable} is not set")
            values[field] = _VARIABLE.sub(lambda found: environment.get(found[1], ""), values[field])
        filled[name] = ChannelEntry(**values)
    if problems:
        raise DocumentError(problems)
    return routing.model_copy(update={"channels": filled})


def _names(routing: Routing, positions: Positions) -> Iterator[str]:
    kinds: dict[str, str] = {}
    for kind in ("channels", "receivers", "rosters"):
        for name in getattr(routing, kind):
            where = positions.locate_key([kind, name])
            if name in RESERVED:
                yield f"{where}: the name ‘{name}’ has a meaning already; take another"
            if name in kinds:
                yield f"{where}: ‘{name}’ is among the {kinds[name]} already; `to` could not tell them apart"
            kinds[name] = kind
    people = [name for name, kind in kinds.items() if kind != "rosters"]
    for path, what, known, names in _references(routing, people, list(kinds)):
        for place, name in enumerate(names):
            if name not in known:
                where = positions.locate([*path, place])
                yield f"{where}: there is no {what} ‘{name}’{suggest(name, known)}"
    seen: set[str] = set()
    for number, route in enumerate(routing.routes):
        if route.name in seen:
            yield f"{positions.locate(['routes', number, 'name'])}: there is a route ‘{route.name}’ already"
        seen.add(route.name)


_Reference = tuple[list[str | int], str, list[str], tuple[str, ...]]
"""Where names stand, what they should be, which of that there are, and the names."""


def _references(routing: Routing, people: list[str], everybody: list[str]) -> Iterator[_Reference]:
    for name, channels in routing.receivers.items():
        yield ["receivers", name], "channel", list(routing.channels), channels
    for name, roster in routing.rosters.items():
        for number, shift in enumerate(roster.shifts):
            yield ["rosters", name, "shifts", number, "receivers"], "receiver or channel", people, shift.to_whom
        yield ["rosters", name, "otherwise"], "receiver or channel", people, roster.otherwise
    for number, route in enumerate(routing.routes):
        yield ["routes", number, "to"], "receiver, roster or channel", everybody, route.to
        for step, one in enumerate(route.escalate):
            yield ["routes", number, "escalate", step, "to"], "receiver, roster or channel", everybody, one.to


def _catch_all(routing: Routing, positions: Positions) -> Iterator[str]:
    everything = [number for number, route in enumerate(routing.routes) if route.match == Match() and not route.go_on]
    last = len(routing.routes) - 1
    if not everything:
        yield (
            f"{positions.locate(['routes', last])}: an alarm may fit no route, and nobody would hear of it; end with a"
            " route without `match` and without `continue`"
        )
    elif everything[0] != last:
        yield (
            f"{positions.locate(['routes', everything[0] + 1])}: nothing comes to this route, as ‘"
            f"{routing.routes[everything[0]].name}’ above takes everything"
        )


def json_schema() -> str:
    """The JSON Schema of a routing file, as `alerts/routing.schema.json` holds it."""
    schema = Routing.model_json_schema()
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Headworks routing"}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def time_to_respond(told: Told) -> Instant:
    """In which time somebody should acknowledge; an hour where the rule is not known."""
    seconds = told.get("seconds_to_respond")
    return int(seconds) * SECOND if seconds else 60 * MINUTE


def describe_escalation(route: Route, told: Told) -> list[str]:
    """The steps of a route's escalation in words."""
    return [
        f"{', '.join(one.to)} after {format_duration(one.after or time_to_respond(told))} without acknowledgement"
        for one in route.escalate
    ]

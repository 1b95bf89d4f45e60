"""The routing file: what is wrong with one is said with its place; who is told what, and why."""

from __future__ import annotations

import json
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from alerts.routing import Routing, channels_for, json_schema, load_routing, quiet_until, routes_for
from devices.document import DocumentError
from devices.model import Instant, instant

ROOT = Path(__file__).parents[3]
FILE = """
zone: UTC
sites:
  East: {zone: Asia/Shanghai, language: zh}
channels:
  mail: {apprise: "json://${HOST}/"}
  hook: {webhook: "https://example.org/x", secret: "${KEY}"}
  bus: {mqtt: "plant/{site}/{priority}"}
receivers:
  anna: [mail, hook]
rosters:
  duty:
    shifts: [{from: "08:00", to: "16:00", receivers: [anna]}]
    otherwise: [bus]
routes:
  - {name: pumps, match: {assets: ["P-*"], priorities: [high]}, to: [duty]}
  - {name: copy, match: {sites: [East]}, to: [bus], continue: true}
  - name: rest
    to: [bus, anna]
    quiet: [{from: "22:00", to: "06:00"}]
"""
ENVIRONMENT = {"HOST": "127.0.0.1", "KEY": "s3cret"}


def told(tag: str = "P-101", site: str = "North", **values: Any) -> dict[str, Any]:
    device = {"identity": f"urn:{tag}", "tag": tag, "site": site, "area": "", "unit": ""}
    return {"event": "raised", "rule": "r", "priority": "low", "class": "process", "device": device} | values


def at(text: str) -> Instant:
    return instant(datetime.fromisoformat(text))


def load(text: str = FILE) -> Routing:
    return load_routing(text, "routing.yaml", ENVIRONMENT)


def names(routing: Routing, announcement: dict[str, Any], when: str = "2026-11-23T09:00Z") -> dict[str, list[str]]:
    return {
        route.name: list(channels_for(routing, route.to, announcement, at(when)))
        for route, why_not in routes_for(routing, announcement)
        if why_not is None
    }


def test_the_first_route_that_fits_takes_it_and_continue_lets_others_too() -> None:
    routing = load()
    assert names(routing, told(priority="high")) == {"pumps": ["mail", "hook"]}
    assert names(routing, told(priority="low")) == {"rest": ["bus", "mail", "hook"]}
    assert names(routing, told("V-1", "East")) == {"copy": ["bus"], "rest": ["bus", "mail", "hook"]}


def test_the_roster_is_asked_in_the_zone_of_the_site() -> None:
    routing = load()
    assert names(routing, told(site="East", priority="high"), "2026-11-23T01:00Z") == {"pumps": ["mail", "hook"]}
    assert names(routing, told(site="North", priority="high"), "2026-11-23T01:00Z") == {"pumps": ["bus"]}


def test_it_says_why_a_route_does_not_fit() -> None:
    tried = routes_for(load(), told())
    assert tried[0].why_not == "its priority is low, not high"


def test_quiet_hours_hold_their_priorities_until_they_end() -> None:
    routing = load()
    route = routing.routes[-1]
    assert quiet_until(routing, route, told(), at("2026-11-23T23:00Z")) == at("2026-11-24T06:00Z")
    assert quiet_until(routing, route, told(priority="medium"), at("2026-11-23T23:00Z")) is None
    assert quiet_until(routing, route, told(site="East"), at("2026-11-23T23:00Z")) is None
    assert quiet_until(routing, route, told(), at("2026-11-23T12:00Z")) is None


def test_what_is_told_of_a_failed_channel_goes_by_others() -> None:
    routing = load()
    failed = told("hook", rule="channel-failed")
    failed["device"]["identity"] = "hook"
    assert list(channels_for(routing, ["anna"], failed, 0)) == ["mail"]
    assert list(channels_for(routing, ["hook"], failed, 0)) == ["mail", "bus"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("anna: [mail, hook]", "anna: [mial]", "routing.yaml:10:10: there is no channel ‘mial’, did you mean ‘mail’?"),
        ("to: [duty]}", "to: [dutty]}", "there is no receiver, roster or channel ‘dutty’, did you mean ‘duty’?"),
        ("receivers: [anna]}]", "receivers: [ana]}]", "there is no receiver or channel ‘ana’, did you mean ‘anna’?"),
        ("${HOST}", "${HOSTNAME_}", "routing.yaml:6:19: the environment variable HOSTNAME_ is not set"),
        ("{priority}", "{prio}", "channels.bus.mqtt: {prio} is not known, did you mean ‘priority’?"),
        ("{assets:", "{asset:", "unknown key ‘asset’, did you mean ‘assets’?"),
        ("name: copy", "name: pumps", "there is a route ‘pumps’ already"),
        ("- name: rest", "- name: rest\n    match: {sites: [North]}", "end with a route without `match`"),
        ("match: {sites: [East]}, to: [bus], continue: true", "to: [bus]", "nothing comes to this route"),
        ("  bus: {mqtt", "  dispatch: {mqtt", "the name ‘dispatch’ has a meaning already"),
        ("  anna: [mail", "  mail: [mail", "‘mail’ is among the channels already"),
        ("priorities: [high]", "classes: [pocess]", "‘pocess’ is no class, did you mean ‘process’?"),
        ("language: zh", "language: cn", "there are no messages in ‘cn’"),
        (', secret: "${KEY}"', ', mqtt: "x"', "write exactly one of apprise, webhook and mqtt"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_what_was_meant(old: str, new: str, said: str) -> None:
    assert old in FILE
    with pytest.raises(DocumentError) as caught:
        load(FILE.replace(old, new, 1))
    assert any(said in problem and problem.startswith("routing.yaml:") for problem in caught.value.problems)


def test_secrets_come_from_the_environment_and_no_message_shows_them() -> None:
    assert load().channels["hook"].secret == "s3cret"
    with pytest.raises(DocumentError) as caught:
        load(FILE.replace("[mail, hook]", "[nobody]"))
    assert "s3cret" not in str(caught.value)


def test_the_example_is_valid_and_the_published_schema_is_that_of_the_code() -> None:
    example = (ROOT / "deploy" / "routing.example.yaml").read_text("utf-8")
    names = ("SMTP_USER", "SMTP_PASSWORD", "CONTROL_SECRET", "DINGTALK_TOKEN")
    assert load_routing(example, "routing.example.yaml", dict.fromkeys(names, "x")).routes
    assert files("alerts").joinpath("routing.schema.json").read_text("utf-8") == json_schema()
    assert json.loads(json_schema())["properties"]["routes"]

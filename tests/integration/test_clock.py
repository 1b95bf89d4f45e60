"""A device whose clock is wrong: nothing is lost, its times are repaired, and somebody is told to look after it."""

from __future__ import annotations

import aiocoap
import pytest

from alerts.backtest import occurrences
from alerts.rulefiles import shipped_rules
from devices.codecs.senml import encode_cbor
from devices.model import HOUR, MINUTE, SECOND, Instant, Measurement
from devices.profile import shipped_profiles
from headworks import clock
from headworks.service import Doors
from storage import history, journal
from storage.database import connect
from tests.conftest import PUMP
from tests.integration.test_gateways import coap, eventually, query, running

CLOCKS = {"it began again in 1970": -1_700_000_000 * SECOND, "it is three hours fast": 3 * HOUR}


def uplink(ahead: Instant, number: int) -> bytes:
    """Two samples by a clock that is so much ahead, the second of them of now."""
    said = clock.now() + ahead
    entries = [
        Measurement("bearing_temperature", None, 60.0 + number, said - MINUTE),
        Measurement("bearing_temperature", None, 61.0 + number, said),
        Measurement("battery_voltage", "V", 3.6, said),
    ]
    return encode_cbor(PUMP.identity, entries, number)


@pytest.mark.parametrize("ahead", CLOCKS.values(), ids=CLOCKS)
def test_a_wrong_clock_is_told_and_costs_no_reading(registered: str, broker_url: str, ahead: Instant) -> None:
    def errors() -> list[tuple[object, ...]]:
        return query(registered, "SELECT value FROM reading JOIN metric USING (metric_id) WHERE name = 'clock_error'")

    def told() -> list[tuple[object, ...]]:
        return query(registered, "SELECT rule, cleared_at FROM alarm WHERE rule = 'clock-wrong'")

    with running(registered, broker_url) as doors:
        sent = [uplink(ahead, number) for number in range(3)]
        for number, payload in enumerate(sent):
            assert post(doors, payload) == aiocoap.CHANGED
            assert len(errors()) == number + 1
        eventually(lambda: told() == [("clock-wrong", None)], "the alarm is raised")
        assert post(doors, sent[1]) == aiocoap.CHANGED, "what is sent again has other times after the repair"
        assert len(errors()) == 3, "and is known all the same"
        assert query(registered, "SELECT count(*) FROM quarantine") == [(0,)]
        assert query(registered, "SELECT count(*) FROM reading WHERE quality = 64") == [(12,)]
        assert all(abs(float(str(value)) - ahead / SECOND) < 60 for (value,) in errors())
    with connect(registered) as connection:
        live = journal.all_occurrences(connection)
        past = history.readings(connection, [PUMP.identity], clock.now() - 24 * HOUR)
    assert occurrences(shipped_rules(), PUMP, shipped_profiles(), past) == live


def post(doors: Doors, payload: bytes) -> aiocoap.Code:
    code: aiocoap.Code = coap(doors, f"/telemetry/{PUMP.identity}", payload, 112).code
    return code

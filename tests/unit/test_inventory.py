"""The device table: what is written is read back, and every bad row is named."""

import math

import pytest

from devices.document import DocumentError
from devices.inventory import check_device, parse_inventory, write_inventory
from devices.model import Device, DeviceStatus
from devices.profile import shipped_profiles

PROFILES = shipped_profiles()


def test_a_table_is_read_back_as_it_was_written() -> None:
    devices = [
        Device(
            "urn:dev:imei:1", "centrifugal-pump", tag="P-101", site='O\'Neil, "North"', design={"pn": 16.0, "dn": 80}
        ),
        Device("urn:dev:imei:2", "control-valve", manufacturer="永嘉阀门", status=DeviceStatus.RETIRED),
    ]
    assert parse_inventory(write_inventory(devices), "devices.csv", PROFILES) == devices


def test_every_bad_row_is_named_with_its_line() -> None:
    table = (
        "identity,profile,design.pn\n"
        "urn:dev:imei:1,centrifugal-pump,16\n"
        "urn:dev:imei:2,centrifugal-pmp,16\n"
        "urn:dev:imei:3,centrifugal-pump,sixteen\n"
        "urn:dev:imei:1,centrifugal-pump,16\n"
        "urn dev,centrifugal-pump,16\n"
        "urn:dev:imei:6,centrifugal-pump\n"
        "urn:dev:imei:7,centrifugal-pump,nan\n"
    )
    with pytest.raises(DocumentError) as caught:
        parse_inventory(table, "devices.csv", PROFILES)
    assert caught.value.problems == [
        "devices.csv:3: unknown profile ‘centrifugal-pmp’, did you mean ‘centrifugal-pump’?",
        "devices.csv:4: design.pn: 'sixteen' is not a number",
        "devices.csv:5: the identity ‘urn:dev:imei:1’ stands twice in this table",
        "devices.csv:6: ‘urn dev’ is no identity: no blanks and none of / + # (it is a level of MQTT topics)",
        "devices.csv:7: the row has more or fewer fields than the header",
        "devices.csv:8: design.pn: nan is not a finite number of something",
    ]


def test_a_wrong_header_is_told_before_any_row() -> None:
    with pytest.raises(DocumentError) as caught:
        parse_inventory("identity,profle\n1,2\n", "devices.csv", PROFILES)
    assert caught.value.problems == [
        "devices.csv:1: unknown column ‘profle’, did you mean ‘profile’?",
        "devices.csv:1: the column ‘profile’ is missing",
    ]


@pytest.mark.parametrize("design", [{"pn": math.nan}, {"pn": math.inf}, {"": 5.0}])
def test_a_nameplate_holds_finite_numbers_of_something(design: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="is not a finite number of something"):
        check_device(Device("urn:x", "centrifugal-pump", design=design), PROFILES)

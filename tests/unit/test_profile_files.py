"""A user's own profiles beside the shipped ones, and the commands that help to write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from devices.document import DocumentError
from devices.profile import shipped_profiles
from headworks.cli import app
from headworks.profiles import load_profile_files

OWN = """\
profile: NAME
title: Ours
kind: meter
codec: frame
reporting: {sampling: 1h, interval: 1d}
metrics:
  temperature: {sensor: [-40, 60]}
frame:
  layout:
    - {value: temperature, type: i16, scale: 0.1}
"""


def write(folder: Path, name: str, text: str = OWN, file: str = "own.yaml") -> Path:
    path = folder / file
    path.write_text(text.replace("NAME", name), "utf-8")
    return path


def problems(path: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        load_profile_files(path)
    return str(caught.value)


def test_own_profiles_stand_beside_the_shipped_ones(tmp_path: Path) -> None:
    file = write(tmp_path, "our-thermometer")
    for path in (file, tmp_path):
        assert load_profile_files(path).keys() == shipped_profiles().keys() | {"our-thermometer"}
    assert load_profile_files(None).keys() == shipped_profiles().keys()


def test_a_shipped_profile_is_replaced_only_where_the_file_says_so(tmp_path: Path) -> None:
    file = write(tmp_path, "water-meter")
    assert "‘water-meter’ is a shipped profile; choose another name, or write ‘override: true’" in problems(file)
    write(tmp_path, "water-meter", OWN + "override: true\n")
    assert load_profile_files(file)["water-meter"].title == "Ours"
    write(tmp_path, "wter-meter", OWN + "override: true\n")
    assert "there is no shipped profile ‘wter-meter’ to replace" in problems(file)


def test_every_problem_of_a_folder_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "one", file="two.yaml")
    write(tmp_path, "three", OWN.replace("i16", "i15"), "three.yaml")
    found = problems(tmp_path)
    assert "two.yaml: the profile ‘one’ stands in" in found
    assert "three.yaml:10:34" in found


def test_a_folder_without_profiles_is_a_mistake(tmp_path: Path) -> None:
    assert "there is no *.yaml file in this folder" in problems(tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    folder = tmp_path / "profiles"
    folder.mkdir()
    write(folder, "our-thermometer")
    monkeypatch.setenv("HEADWORKS_PROFILES", str(folder))
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


def test_the_setting_reaches_every_command(run: CliRunner) -> None:
    assert "our-thermometer" in run.invoke(app, ["devices", "profiles"]).output
    assert "our-thermometer" in run.invoke(app, ["profiles", "list"]).output
    assert "-40 … 60" in run.invoke(app, ["devices", "profiles", "our-thermometer"]).output
    assert "-40 … 60" in run.invoke(app, ["profiles", "show", "our-thermometer"]).output
    missing = run.invoke(app, ["profiles", "show", "our-thermomter"])
    assert missing.exit_code == 1
    assert "did you mean ‘our-thermometer’?" in missing.output


def test_try_shows_fields_readings_and_errors_by_byte(run: CliRunner, tmp_path: Path) -> None:
    tried = run.invoke(app, ["profiles", "try", "our-thermometer", "--hex", "00 fa"])
    assert tried.exit_code == 0
    assert "temperature = 25" in tried.output
    assert "degC" in tried.output
    short = run.invoke(app, ["profiles", "try", "our-thermometer", "--hex", "00"])
    assert short.exit_code == 1
    assert "refused, malformed: byte 0: ‘temperature’ takes 2 bytes, 1 left" in short.output
    payload = tmp_path / "payload.json"
    payload.write_text('[{"n":"flow","v":5},{"n":"florw","v":5}]')
    senml = run.invoke(app, ["profiles", "try", "water-meter", "--file", str(payload)])
    assert senml.exit_code == 1
    assert "refused, unknown_metric: 'florw'" in senml.output
    assert run.invoke(app, ["profiles", "try", "water-meter"]).exit_code == 2
    assert run.invoke(app, ["profiles", "try", "water-meter", "--hex", "0x"]).exit_code == 2


def test_check_and_schema(run: CliRunner, tmp_path: Path) -> None:
    assert run.invoke(app, ["profiles", "check", str(tmp_path / "profiles")]).output == "1 profile is valid\n"
    bad = write(tmp_path, "x", OWN.replace("kind: meter", "kind: tap"), "bad.yaml")
    result = run.invoke(app, ["profiles", "check", str(bad)])
    assert isinstance(result.exception, DocumentError)
    assert "bad.yaml:3:7" in str(result.exception)
    assert '"$schema"' in run.invoke(app, ["profiles", "schema"]).output

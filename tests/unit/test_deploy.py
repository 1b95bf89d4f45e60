"""The production files agree with each other and with the code: no default password, no door open by accident, no path
or setting that does not exist. No container engine is needed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ruamel.yaml import YAML

from dashboards.__main__ import files
from dashboards.language import FOLDERS, LANGUAGES
from dashboards.query import PLUGIN
from headworks.settings import Settings
from ingest.coap_resource import MAX_PAYLOAD
from ingest.mqtt import RECEIVE_MAXIMUM
from ingest.sparkplug_session import Address
from ingest.topics import GATEWAY_RIGHTS, address_of

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
EXAMPLE_TEXT = (DEPLOY / "headworks.env.example").read_text(encoding="utf-8")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = (DEPLOY / "systemd" / "headworks.service").read_text(encoding="utf-8")

OPEN_PORTS = {"5683:5683/udp", "1883:1883", "8883:8883"}


def _yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


COMPOSE = _yaml(DEPLOY / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
STANDING = sorted(SERVICES.keys() - ONE_SHOT)
EXAMPLE = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE_TEXT, re.MULTILINE))


def _uses() -> list[tuple[str, str, str]]:
    """Every `${NAME<operator>rest}` of the compose file's values."""
    without_comments = re.sub(r"^\s*#.*$", "", COMPOSE_TEXT, flags=re.MULTILINE)
    return re.findall(r"(?<!\$)\$\{([A-Z_]+)(:?[-?+]?)([^}]*)\}", without_comments)


def _volumes(name: str) -> list[list[str]]:
    return [volume.split(":") for volume in SERVICES[name].get("volumes", [])]


def test_the_services_are_the_whole_platform() -> None:
    assert set(STANDING) == {"timescaledb", "mosquitto", "headworks", "grafana"}
    assert {"migrate", "platform-login", "grafana-login"} == ONE_SHOT


@pytest.mark.parametrize("name", STANDING)
def test_each_standing_service_has_a_health_check_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned_to_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    if image.startswith("headworks:"):
        return
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+\.\d+[a-z0-9-]*", image), image


def test_the_images_of_the_dockerfile_are_pinned_too() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) == 2
    assert all(re.fullmatch(r"python:3\.13\.\d+-slim-\w+", image) for image in images)


def test_dependencies_are_waited_for_and_exist() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}, f"{name} waits for {other}"
    assert set(SERVICES["headworks"]["depends_on"]) == {"platform-login", "mosquitto"}
    assert set(SERVICES["platform-login"]["depends_on"]) == {"migrate"}


def test_only_the_devices_doors_are_open_to_the_network() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port in OPEN_PORTS or port.startswith("127.0.0.1:"), f"{name} publishes {port}"
    assert {port for service in SERVICES.values() for port in service.get("ports", [])} >= OPEN_PORTS


def test_there_is_no_default_password() -> None:
    secret = re.compile("PASSWORD|SECRET|TOKEN|KEY")
    for variable, operator, message in _uses():
        if secret.search(variable):
            assert operator == ":?", f"{variable} needs `:?` and a message"
            assert variable in message, message
            assert "deploy/.env" in message, message
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable) and value is not None:  # without a value: passed on if .env has it
                assert re.match(r"\$\{[A-Z_]+:\?", str(value)), variable
    for variable, value in EXAMPLE.items():
        assert value == "", f"{variable} has a value in the example"


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    named = {variable for variable, _, _ in _uses()}
    for service in SERVICES.values():
        named |= {name for name in service.get("environment", {}) if name.startswith("HEADWORKS_")}
    assert named >= {"POSTGRES_PASSWORD", "HEADWORKS_DATABASE_URL", "HEADWORKS_WEBHOOK_URL"}
    assert named <= set(EXAMPLE)


def test_the_example_names_every_setting_and_no_other() -> None:
    settings = {f"HEADWORKS_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in EXAMPLE if name.startswith("HEADWORKS_")} == settings | {"HEADWORKS_VERSION"}


def test_every_setting_of_the_example_is_explained() -> None:
    lines = EXAMPLE_TEXT.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[A-Z_]+=", line):
            block = number
            while re.match(r"[A-Z_]+=", lines[block]):
                block -= 1
            assert lines[block].startswith("# "), line


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_mounted_paths_and_volumes_exist(name: str) -> None:
    for source, target, *mode in _volumes(name):
        assert target.startswith("/")
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
            assert mode == ["ro"], f"{source} is mounted for writing"
        else:
            assert source in COMPOSE["volumes"]


def test_the_image_is_built_from_what_exists() -> None:
    build = SERVICES["headworks"]["build"]
    # A service that only names the image would be looked for in a registry.
    assert all("build" in service for service in SERVICES.values() if service["image"].startswith("headworks:"))
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert ROOT / build["dockerfile"] == DEPLOY / "Dockerfile"
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / name).exists() for name in allowed)
    # Whatever the wheel is made of has to be in the build's context.
    packages = re.search(r"^packages = \[([^\]]*)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages
    assert set(re.findall(r'"(\w+)"', packages[1])) <= allowed
    assert {"README.md", "LICENSE", "requirements.lock", "requirements-dev.lock"} <= allowed


def test_no_secret_can_get_into_the_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored.index("*") < ignored.index("!deploy") < ignored.index("deploy/.env")
    assert not re.search(r"^(ARG|ENV).*(PASSWORD|TOKEN|SECRET)", DOCKERFILE, re.MULTILINE)


def test_the_image_installs_by_hash_and_runs_without_root() -> None:
    installs = [line for line in re.split(r"&&|\n", DOCKERFILE) if "pip install" in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps --no-index" in line for line in installs)
    final = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER headworks$", final, re.MULTILINE)
    assert "/healthz" in final.split("HEALTHCHECK")[1].split("\n\n")[0]
    assert final.rstrip().endswith('ENTRYPOINT ["headworks"]\nCMD ["serve"]')


def test_the_compose_health_check_asks_where_the_service_listens() -> None:
    headworks = SERVICES["headworks"]
    port = headworks["environment"]["HEADWORKS_HTTP_PORT"]
    assert f"http://127.0.0.1:{port}/healthz" in " ".join(headworks["healthcheck"]["test"])
    assert f"{headworks['environment']['HEADWORKS_COAP_PORT']}/udp" in " ".join(headworks["ports"])


def test_grafana_finds_its_data_source_and_dashboards() -> None:
    targets = {target: DEPLOY / source for source, target, *_ in _volumes("grafana") if source.startswith(".")}
    source = _yaml(DEPLOY / "grafana/provisioning/datasources/headworks.yaml")["datasources"][0]
    assert source["type"] == PLUGIN
    assert source["jsonData"]["timescaledb"] is True
    assert source["secureJsonData"]["password"] == "$GRAFANA_DATABASE_PASSWORD"
    assert "GRAFANA_DATABASE_PASSWORD" in SERVICES["grafana"]["environment"]
    host, _, port = source["url"].partition(":")
    assert (host in SERVICES, port) == (True, "5432")
    providers = _yaml(DEPLOY / "grafana/provisioning/dashboards/headworks.yaml")["providers"]
    ((mounted, directory),) = [(target, path) for target, path in targets.items() if path.name == "json"]
    assert len(providers) == len(LANGUAGES)
    for language, provider in zip(LANGUAGES, providers, strict=True):
        assert (provider["folderUid"], provider["folder"]) == FOLDERS[language]
        assert provider["options"]["path"] == f"{mounted}/{language}"
        assert {path.name for path in (directory / language).iterdir()} == set(files(language))
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == mounted + "/${GRAFANA_LANGUAGE:-en}/fleet-overview.json"


def test_grafana_logs_in_as_the_reader() -> None:
    sql = (DEPLOY / "grafana/reader.sql").read_text(encoding="utf-8")
    user = _yaml(DEPLOY / "grafana/provisioning/datasources/headworks.yaml")["datasources"][0]["user"]
    granted = re.findall(r"^GRANT (.*) TO (\w+);", sql, re.MULTILINE)
    assert granted == [("headworks_reader", user)]
    assert f"ALTER ROLE {user} SET default_transaction_read_only = on" in sql


def test_the_platform_logs_in_as_the_writer() -> None:
    sql = (DEPLOY / "writer.sql").read_text(encoding="utf-8")
    user = urlsplit(SERVICES["headworks"]["environment"]["HEADWORKS_DATABASE_URL"]).username
    assert re.findall(r"^GRANT (.*) TO (\w+);", sql, re.MULTILINE) == [("headworks_writer", user)]


def _broker_settings() -> list[tuple[str, str]]:
    text = (DEPLOY / "mosquitto/mosquitto.conf").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def test_the_broker_keeps_what_it_acknowledges() -> None:
    settings = dict(_broker_settings())
    assert settings["max_queued_messages"] == "0"
    assert settings["max_queued_bytes"] == "0"
    assert settings["persistence"] == "true"
    assert int(settings["max_inflight_messages"]) >= RECEIVE_MAXIMUM
    assert int(settings["max_packet_size"]) > MAX_PAYLOAD
    assert "message_size_limit" not in settings  # it acknowledges what it drops
    assert settings["persistence_location"].rstrip("/") in {target for _, target, *_ in _volumes("mosquitto")}


def test_nobody_is_anonymous_but_on_loopback() -> None:
    listener = ""
    seen: dict[str, dict[str, str]] = {}
    for key, value in _broker_settings():
        if key == "listener":
            listener = value
        seen.setdefault(listener, {})[key] = value
    assert seen[""]["per_listener_settings"] == "true"
    assert {name for name, of in seen.items() if of.get("allow_anonymous") == "true"} == {"1880 127.0.0.1"}
    assert {"password_file", "acl_file"} <= set(seen["1883"])
    assert "-p 1880" in " ".join(SERVICES["mosquitto"]["healthcheck"]["test"])


def test_a_device_may_speak_only_for_itself_on_the_gateways_topic() -> None:
    rules = [line for line in (DEPLOY / "mosquitto/acl").read_text().splitlines() if line and not line.startswith("#")]
    end = len(GATEWAY_RIGHTS) + 1
    assert rules[:end] == ["user headworks", *(f"topic {one}" for one in GATEWAY_RIGHTS)]
    own = [rule for rule in rules[end:] if rule.startswith("pattern write ")]
    assert own[:2] == ["pattern write headworks/%u/telemetry", "pattern write headworks/urn:dev:imei:%u/telemetry"]
    for rule in own:
        topic = rule.removeprefix("pattern write ")
        if topic.startswith("spBv1.0/"):
            edge = Address.parse(topic)
            assert edge is not None
            assert edge.edge.node == "%u", "an edge node speaks for itself and its own devices only"
        else:
            address = address_of(topic)
            assert address is not None
            assert address.identity is not None
            assert "%u" in address.identity
    assert set(rules[end:]) - set(own) == {
        "pattern read spBv1.0/+/NCMD/%u",
        "pattern read spBv1.0/+/DCMD/%u/+",
        "pattern read spBv1.0/STATE/+",
    }


def test_the_unit_runs_the_documented_commands_with_its_settings() -> None:
    def setting(name: str) -> list[str]:
        return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)

    assert [shlex.split(line)[1:] for line in setting("ExecStartPre") + setting("ExecStart")] == [
        ["migrate"],
        ["serve"],
    ]
    assert setting("EnvironmentFile") == ["/etc/headworks/headworks.env"]
    assert setting("User") == ["headworks"]
    for name, value in {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "CapabilityBoundingSet": ""}.items():
        assert setting(name) == [value]


def test_the_readme_names_only_files_that_exist() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"`(deploy/[\w./-]+)`", text):
        yours = ("deploy/.env", "deploy/compose.override.yaml")  # written by whoever deploys
        assert path in yours or (ROOT / path).exists(), path

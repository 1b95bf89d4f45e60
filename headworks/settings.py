"""What a user can set: environment variables `HEADWORKS_*`, or the same names in lower case in `headworks.toml`.

The environment wins over the file. Addresses with passwords are secrets: they print as `**********`.
"""

from __future__ import annotations

import os
import ssl
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

FILE = "headworks.toml"


class SettingsError(ValueError):
    """A setting is not valid; the message names the variable and what it should be."""


class UnknownDevices(StrEnum):
    """What to do with a device that is not registered."""

    REFUSE = "refuse"
    HOLD = "hold"


class LogFormat(StrEnum):
    """How log lines are written."""

    AUTO = "auto"
    """For people on a terminal, JSON elsewhere."""
    CONSOLE = "console"
    JSON = "json"


def _state_directory() -> Path:
    """Where data lives: the user's state folder; for root one that the database's own user can reach too."""
    if os.geteuid() == 0:
        return Path("/var/lib/headworks")
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "headworks"


def _postgres_address(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("a database address looks like postgresql://user:password@host:5432/name")
    return value


def _mqtt_address(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("mqtt://", "mqtts://")):
        raise ValueError("an MQTT address looks like mqtt://user:password@host:1883 (mqtts:// with TLS)")
    return value


def _web_address(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("an address looks like https://console.example.org")
    return value.rstrip("/")


def _issuer(value: str) -> str:
    _web_address(value)
    return value  # to the letter, with a slash at its end if it has one: it is compared with the provider's own


def _time_zone(value: str) -> str:
    check_time_zone(value)
    return value


def check_time_zone(value: str) -> None:
    """`ValueError` where the IANA database has no time zone of this name."""
    if value not in available_timezones():
        near = get_close_matches(value, sorted(available_timezones()), 1)
        raise ValueError(f"there is no time zone {value!r}{f'; did you mean {near[0]}?' if near else ''}")


Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """All settings with their defaults. Everything binds to loopback unless told otherwise."""

    model_config = SettingsConfigDict(env_prefix="HEADWORKS_", extra="forbid", env_ignore_empty=True)

    database_url: Annotated[SecretStr, AfterValidator(_postgres_address)] | None = Field(
        default=None, description="A PostgreSQL of your own; without it one is started here"
    )
    mqtt_url: Annotated[SecretStr, AfterValidator(_mqtt_address)] | None = Field(
        default=None, description="An MQTT broker of your own; without it one is started here"
    )
    instance: str = Field(
        default="",
        pattern="^[a-z0-9]{0,16}$",
        description="A name for this process where several share a database, a broker and a CoAP port",
    )
    state_dir: Path = Field(default_factory=_state_directory, description="Where the embedded services keep their data")
    cache_dir: Path | None = Field(default=None, description="Where the fetched services are kept")
    unknown_devices: UnknownDevices = Field(
        default=UnknownDevices.REFUSE,
        description="What a device that is not registered is told: refuse, or hold what it sends until it is approved",
    )
    coap_host: str = "127.0.0.1"
    coap_port: Port = 5683
    coaps_port: Port | None = Field(
        default=None, description="Port of CoAP over DTLS with pre-shared keys (5684 by custom); without it, none"
    )
    coap_source_rate: float = Field(
        default=1000.0, ge=0, description="Uplinks a second that one address may send by CoAP; 0 is no limit"
    )
    coap_device_rate: float = Field(
        default=2.0, ge=0, description="Uplinks a second of one device by CoAP, after a burst of 240; 0 is no limit"
    )
    mqtt_topics: str = Field(
        default="",
        description="Topic filters to subscribe to, separated by spaces [default: Headworks', IoTDA's, ThingsBoard's]",
    )
    sparkplug_host: str = Field(
        default="",
        pattern=r"^[^/+#\s]{0,64}$",
        description="Be a Sparkplug B host application of this name; one process at a broker only",
    )
    mqtt_door_port: Port | None = Field(
        default=None, description="Port of our own MQTT door, for devices of ThingsBoard and IoTDA; without it, none"
    )
    mqtt_door_host: str = "127.0.0.1"
    mqtt_door_cert: Path | None = Field(default=None, description="The door's certificate chain (PEM): TLS")
    mqtt_door_key: Path | None = Field(
        default=None, description="The private key of that certificate [default: in the same file]"
    )
    mqtt_port: Port = Field(default=1883, description="Port of the embedded broker (another is chosen if it is taken)")
    http_host: str = "127.0.0.1"
    http_port: Port = 8080
    http_cert: Path | None = Field(
        default=None, description="Certificate chain (PEM) of the API and the console: TLS; without it, plain HTTP"
    )
    http_key: Path | None = Field(
        default=None, description="The private key of that certificate [default: in the same file]"
    )
    console_url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        default=None, description="What people type to reach the console, where a proxy stands before it"
    )
    oidc_issuer: Annotated[str, AfterValidator(_issuer)] | None = Field(
        default=None, description="The OpenID Connect provider that people may log in by; without it, tokens only"
    )
    oidc_client_id: str = Field(default="", description="As what the console is registered at the provider")
    oidc_client_secret: SecretStr | None = Field(default=None, description="What proves that to the provider")
    oidc_roles: str = Field(
        default="", description="Who gets in and may do what: value=role; value=role … of the claim's values"
    )
    oidc_claim: str = Field(default="groups", description="The claim whose values map to roles")
    oidc_scopes: str = Field(default="openid profile", description="What the provider is asked to tell")
    oidc_name: str = Field(default="", description="What the log-in page calls the provider [default: its host]")
    grafana_url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        default=None, description="Grafana, for links from the console; without it, none"
    )
    time_zone: Annotated[str, AfterValidator(_time_zone)] = Field(
        default="UTC", description="Of sites that have none of their own (`headworks sites set`), as Asia/Shanghai"
    )
    rules: Path | None = Field(
        default=None,
        description="A file or folder of alarm rules, in place of the shipped ones unless it includes them",
    )
    profiles: Path | None = Field(
        default=None, description="A file or folder of device profiles, beside the shipped ones"
    )
    routing: Path | None = Field(default=None, description="The file that says who is told what, by which channels")
    webhook_url: SecretStr | None = Field(default=None, description="Where announcements are posted")
    spool: str = Field(
        default="on",
        description="Where uplinks wait while the database is away: on (in the state folder), off, or a file's path",
    )
    spool_bytes: int = Field(default=1024**3, gt=0, description="How much the spool may hold, in bytes")
    webhook_secret: SecretStr | None = Field(
        default=None, description="Signs what is posted, so that the receiver knows that it is from here"
    )
    keep_readings_days: int = Field(default=730, ge=0, description="How long readings are kept; 0 is for ever")
    keep_uplinks_days: int = Field(default=90, ge=0, description="How long the uplink log is kept; 0 is for ever")
    keep_quarantine_days: int = Field(default=90, ge=0, description="How long quarantine is kept; 0 is for ever")
    checkpoint_seconds: int = Field(
        default=900, ge=1, description="How often, in seconds, what the alarm engine knows is kept for the next start"
    )
    key_file: Path | None = Field(
        default=None, description="The key that seals devices' secrets [default: secret.key in the state folder]"
    )
    log_level: str = Field(default="info", pattern="(?i)^(debug|info|warning|error)$")
    log_format: LogFormat = LogFormat.AUTO

    @property
    def console_address(self) -> str:
        """What people type to reach the console."""
        scheme = "https" if self.http_cert else "http"
        return self.console_url or f"{scheme}://{self.http_host}:{self.http_port}"

    @property
    def key_path(self) -> Path:
        """The file with the key that seals devices' secrets."""
        return self.key_file or self.state_dir / "secret.key"

    @property
    def tap_path(self) -> Path:
        """The socket at which `headworks record` listens."""
        return self.state_dir / (f"tap-{self.instance}.sock" if self.instance else "tap.sock")

    @property
    def spool_path(self) -> Path | None:
        """The spool's file; None where it is off."""
        if self.spool.lower() == "off":
            return None
        if self.spool.lower() == "on":
            return self.state_dir / (f"spool-{self.instance}.db" if self.instance else "spool.db")
        return Path(self.spool)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over the file; no other source."""
        path = os.environ.get("HEADWORKS_SETTINGS", FILE)
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(path))


def check_certificate(settings: Settings) -> None:
    """`SettingsError` where the HTTP door's certificate and key cannot be used."""
    if settings.http_cert is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.http_cert, settings.http_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"HEADWORKS_HTTP_CERT, HEADWORKS_HTTP_KEY: no certificate with its key there: {error}"
        ) from None


def load_settings() -> Settings:
    """The settings of this process; `SettingsError` with one line for each that is not valid."""
    try:
        settings = Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = ".".join(str(step) for step in problem["loc"])
            lines.append(f"HEADWORKS_{name.upper()}: {problem['msg'].removeprefix('Value error, ')}")
        raise SettingsError("\n".join(lines)) from error
    except ValueError as error:  # TOML that cannot be read
        raise SettingsError(f"{os.environ.get('HEADWORKS_SETTINGS', FILE)}: {error}") from error
    return settings

"""What the columns of a recorded table (CSV, Parquet) mean: a YAML document, checked with line and column."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from devices.document import DocumentModel, load_document
from devices.duration import Duration
from devices.metrics import CATALOGUE
from devices.model import Device, Instant, instant
from devices.profile import MetricName
from devices.units import accepted

UNIX, UNIX_MS = "unix", "unix_ms"


class Column(DocumentModel):
    """One column that is a metric."""

    metric: MetricName
    unit: str | None = Field(default=None, description="The unit the file is in; the metric's canonical one if absent")
    scale: float = Field(default=1.0, description="Factor before the unit")
    device: int = Field(default=0, ge=0, description="Which of `devices` the column belongs to, from 0")

    @model_validator(mode="after")
    def _unit_fits(self) -> Column:
        canonical = CATALOGUE[self.metric].unit
        if self.unit not in accepted(canonical):
            raise ValueError(f"{self.unit!r} is no unit of ‘{self.metric}’, which is kept in {canonical}")
        return self


class Target(DocumentModel):
    """A device that the recording is played as."""

    identity: str = Field(min_length=1)
    profile: str
    tag: str = ""
    site: str = ""

    def device(self) -> Device:
        """As the registry wants it."""
        return Device(self.identity, self.profile, tag=self.tag, site=self.site)


class DeviceColumn(DocumentModel):
    """A file of many devices: one column names the device of each row."""

    column: str
    prefix: str = Field(default="", description="Put before the column's text to make the identity")


class Mapping(DocumentModel):
    """How to read a file, and as which devices to send it."""

    separator: str = Field(default=",", min_length=1, max_length=1)
    decimal: str = Field(default=".", pattern=r"^[.,]$", description="The decimal sign of the file's numbers")
    time_column: str
    time_format: str | None = Field(
        default=None, description="strptime's, or `unix` (seconds) or `unix_ms`; ISO 8601 if absent"
    )
    time_zone: str = Field(default="UTC", description="Of times that name none")
    devices: tuple[Target, ...] = ()
    device_column: DeviceColumn | None = None
    columns: dict[str, Column] = Field(min_length=1)
    ignore: tuple[str, ...] = Field(default=(), description="Columns that are left out on purpose")
    batch: int = Field(default=60, ge=1, le=2_000, description="Rows of the file in one report")
    batch_interval: Duration | None = Field(default=None, description="A report ends after this time, however few rows")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is no time zone; write one like Asia/Shanghai or UTC") from error
        return name

    @model_validator(mode="after")
    def _devices_exist(self) -> Mapping:
        if bool(self.devices) == (self.device_column is not None):
            raise ValueError("name either ‘devices’, or a ‘device_column’ that tells the device of each row")
        known = len(self.devices) or 1
        for name, column in self.columns.items():
            if column.device >= known:
                raise ValueError(f"column ‘{name}’ is of device {column.device}, but there are {known} (from 0)")
        seen: dict[tuple[int, str], str] = {}
        for name, column in self.columns.items():
            other = seen.setdefault((column.device, column.metric), name)
            if other != name:
                raise ValueError(
                    f"‘{other}’ and ‘{name}’ are the same metric ‘{column.metric}’ of the same device; "
                    "give one of them another device"
                )
        return self

    @property
    def wanted(self) -> list[str]:
        """The columns that the file must have."""
        extra = [self.device_column.column] if self.device_column else []
        return [self.time_column, *extra, *self.columns]

    def instant(self, text: str) -> Instant:
        """The sample time of a row; `ValueError` or `OverflowError` where it cannot be read."""
        if self.time_format == UNIX:
            return round(float(text) * 1e6)
        if self.time_format == UNIX_MS:
            return round(float(text) * 1e3)
        moment = datetime.fromisoformat(text) if self.time_format is None else datetime.strptime(text, self.time_format)  # noqa: DTZ007 - the zone follows
        return self.instant_of(moment)

    def instant_of(self, moment: datetime) -> Instant:
        """The same of a time that has been read; without a zone it is in the mapping's."""
        zone = UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)
        return instant(moment if moment.tzinfo else moment.replace(tzinfo=zone))


def load_mapping(path: Path) -> Mapping:
    """Read a mapping file, or a shipped one by its bare name (`skab`, `nab`). `DocumentError` where it is not valid."""
    shipped = files("simulators").joinpath("maps", f"{path}.yaml")
    if not path.suffix and not path.exists() and shipped.is_file():
        return load_document(shipped.read_text(encoding="utf-8"), f"{path}.yaml", Mapping)
    return load_document(path.read_text("utf-8"), str(path), Mapping)

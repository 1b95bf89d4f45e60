"""What the columns of a recorded CSV file mean: a YAML document, checked with line and column."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from devices.document import DocumentModel, load_document
from devices.metrics import CATALOGUE
from devices.model import Device, Instant, instant
from devices.profile import MetricName
from devices.units import accepted


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


class Mapping(DocumentModel):
    """How to read a file, and as which devices to send it."""

    separator: str = Field(default=",", min_length=1, max_length=1)
    time_column: str
    time_format: str | None = Field(default=None, description="strptime's; ISO 8601 if absent")
    time_zone: str = "UTC"
    devices: tuple[Target, ...] = Field(min_length=1)
    columns: dict[str, Column] = Field(min_length=1)
    ignore: tuple[str, ...] = Field(default=(), description="Columns that are left out on purpose")
    batch: int = Field(default=60, ge=1, le=2_000, description="Rows of the file in one uplink")

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
        for name, column in self.columns.items():
            if column.device >= len(self.devices):
                raise ValueError(f"column ‘{name}’: there is no device {column.device}; they are counted from 0")
        seen = {(column.device, column.metric) for column in self.columns.values()}
        if len(seen) < len(self.columns):
            raise ValueError("two columns are the same metric of the same device; give one of them another device")
        return self

    def instant(self, text: str) -> Instant:
        """The sample time of a row; `ValueError` where it cannot be read."""
        moment = datetime.fromisoformat(text) if self.time_format is None else datetime.strptime(text, self.time_format)  # noqa: DTZ007 - the zone follows
        zone = UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)
        return instant(moment if moment.tzinfo else moment.replace(tzinfo=zone))


def load_mapping(path: Path) -> Mapping:
    """Read a mapping file, or a shipped one by its bare name (`skab`, `nab`). `DocumentError` where it is not valid."""
    shipped = files("simulators").joinpath("maps", f"{path}.yaml")
    if not path.suffix and not path.exists() and shipped.is_file():
        return load_document(shipped.read_text(encoding="utf-8"), f"{path}.yaml", Mapping)
    return load_document(path.read_text("utf-8"), str(path), Mapping)

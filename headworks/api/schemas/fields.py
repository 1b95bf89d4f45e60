"""Fields that several bodies have, and what every body keeps to."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Number = Annotated[int, Field(ge=1, lt=2**63)]
Numbers = Annotated[list[Number], Field(min_length=1, max_length=1000)]
NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"
Name = Annotated[str, StringConstraints(max_length=200, pattern=NO_CONTROL)]
"""A site, a rule, an identity …: to look for, so it may be one that is not there."""
Comment = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Length = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,3}[mhd]$")]
"""A duration such as `30m`, `8h` or `2d`."""


class Body(BaseModel):
    """What clients send: no field that is not known, no guessing of types."""

    model_config = ConfigDict(extra="forbid", strict=True)

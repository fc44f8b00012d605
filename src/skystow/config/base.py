"""The words that every section of a site file is made of."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationInfo

from skystow.errors import ConfigError
from skystow.model.layout import ROW_FIELDS, Layout
from skystow.model.patterns import Patterns

CREDENTIALS = "$CREDENTIALS_DIRECTORY"
"""How a path begins that is where a service manager has put what the service alone may read."""


def from_here(value: str, info: ValidationInfo) -> str:
    """A relative path is relative to the site file's directory."""
    if "\0" in value:
        raise ValueError("should be a path")
    if value.startswith(f"{CREDENTIALS}/"):
        there = os.environ.get(CREDENTIALS[1:])
        return value.replace(CREDENTIALS, there, 1) if there else value  # only whoever reads it needs to know
    return os.path.abspath(os.path.join((info.context or {}).get("directory", "."), value))


def _row_layout(value: Any, info: ValidationInfo) -> Layout:
    kind = "type" if info.data.get("version") == "v0" else "action"
    return _layout(value, ROW_FIELDS.keys() - ({"type", "action"} - {kind}))


def _layout(value: Any, extra: Iterable[str] = ()) -> Layout:
    if not isinstance(value, str):
        raise ValueError("should be a template such as {relative_path}")  # noqa: TRY004 - pydantic wants ValueError
    try:
        return Layout(value, extra)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _pattern(value: str) -> str:
    try:
        Patterns([value])
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return value


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Path = Annotated[str, StringConstraints(min_length=1), AfterValidator(from_here)]
Count = Annotated[int, Field(strict=True, ge=1)]
Flag = Annotated[bool, Field(strict=True)]
Template = Annotated[Layout, BeforeValidator(lambda value: _layout(value))]
RowTemplate = Annotated[Layout, BeforeValidator(_row_layout)]
PatternList = tuple[Annotated[str, AfterValidator(_pattern)], ...]
Identity = Annotated[str, StringConstraints(min_length=1)] | Annotated[int, Field(strict=True, ge=0)] | None
"""A user or group by name or number; None: whoever runs skystow."""


Marker = Annotated[str, StringConstraints(min_length=1)]
"""A path below a root that proves that the right disk is mounted there."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Tls(Section):
    """How a server proves who it is, by the authority `ca`; and we to it, where it asks for that."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None

"""What a topic of SAL is: its fields as DDS has them, whatever kind of file they were read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from skystow.errors import ConfigError
from skystow.model.records import shown

INTEGERS: Mapping[str, tuple[int, int]] = {
    "octet": (0, 2**8 - 1),
    "short": (-(2**15), 2**15 - 1),
    "unsigned short": (0, 2**16 - 1),
    "long": (-(2**31), 2**31 - 1),
    "unsigned long": (0, 2**32 - 1),
    "long long": (-(2**63), 2**63 - 1),
    "unsigned long long": (0, 2**64 - 1),
}
"""The least and the greatest value of each kind that is a number without a fraction."""

FLOATS = ("float", "double")
KINDS = ("boolean", "char", "string", *INTEGERS, *FLOATS)

COMMAND, EVENT, ACKCMD = "command_", "logevent_", "ackcmd"
PRIORITY = "priority"
PRIVATE = "private_"

MOST_ELEMENTS = 1_000_000
"""Of one topic, arrays counted in full: what one sample of it may take of memory."""


class Unfit(ValueError):
    """A value that is not of its field. Says which."""


@dataclass(frozen=True, slots=True)
class Field:
    """`kind` is one of `KINDS`. `size`: the most bytes that a string may have (None: no bound). `count`: how many there
    are, 1 where it is no array; an array may have the length 1, then `array` says so. `key`: it tells the instances of
    a component apart, as `ScriptID` does."""

    name: str
    kind: str
    size: int | None = None
    count: int = 1
    key: bool = False
    array: bool = False

    @property
    def many(self) -> bool:
        """Whether its value is a list."""
        return self.array or self.count > 1

    def __str__(self) -> str:
        """As IDL has it: `string<256> obsid`, `long counts[9]`."""
        bound = f"<{self.size}>" if self.size is not None else ""
        return f"{'@key ' if self.key else ''}{self.kind}{bound} {self.name}{f'[{self.count}]' if self.many else ''}"


@dataclass(frozen=True, slots=True)
class Topic:
    """`component`: `CCArchiver`; `name`: `command_start`, `logevent_summaryState`, `ackcmd`, or that of a telemetry;
    `revision`: eight hexadecimal digits. Samples of another revision are of another topic, to DDS."""

    component: str
    name: str
    revision: str
    fields: tuple[Field, ...]

    @property
    def struct(self) -> str:
        return f"{self.name}_{self.revision}"

    @property
    def dds_name(self) -> str:
        return f"{self.component}_{self.struct}"

    @property
    def type_name(self) -> str:
        return f"{self.component}::{self.struct}"

    @property
    def public(self) -> tuple[Field, ...]:
        """What this topic is for: not the fields that all have, of which writers take care by themselves."""
        return tuple(
            each
            for each in self.fields
            if not (
                each.name.startswith(PRIVATE) or each.key or (each.name == PRIORITY and self.name.startswith(EVENT))
            )
        )

    def must_have(self, *fields: str) -> None:
        """Raises `ConfigError` where it lacks one."""
        if missing := [each for each in fields if not self.has(each)]:
            raise ConfigError(
                f"{self.component} {self.name} has no field {', '.join(missing)} in these SAL definitions",
                remedy="no SAL does without; is the directory of definitions the right one?",
            )

    def has(self, field: str) -> bool:
        return any(each.name == field for each in self.fields)

    def field(self, name: str) -> Field:
        """Raises `KeyError`."""
        for each in self.fields:
            if each.name == name:
                return each
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Definitions:
    """All topics of a component, by their names. `sal_version` and `xml_version` are empty where the files do not say
    them; `where` names the files, for messages."""

    component: str
    topics: Mapping[str, Topic]
    sal_version: str = ""
    xml_version: str = ""
    where: str = ""

    @property
    def commands(self) -> tuple[str, ...]:
        """Without `command_`, sorted."""
        return tuple(sorted(self._of(COMMAND)))

    @property
    def events(self) -> tuple[str, ...]:
        """Without `logevent_`, sorted."""
        return tuple(sorted(self._of(EVENT)))

    def _of(self, prefix: str) -> Iterator[str]:
        return (name.removeprefix(prefix) for name in self.topics if name.startswith(prefix))

    def command_number(self, name: str) -> int:
        """The `cmdtype` of the command `start` in an `ackcmd`: where `command_start` stands, counted from 0, among the
        names of all topics of the component (with their prefixes, without their revisions; commands, events,
        telemetry and `ackcmd`) in the order of their characters. This is what salobj 6 does. Raises `ConfigError`."""
        return sorted(self.topics).index(self.topic(f"{COMMAND}{name}").name)

    def topic(self, name: str) -> Topic:
        """By its whole name, `command_start`. Raises `ConfigError` where these definitions have none of that name."""
        if (found := self.topics.get(name)) is not None:
            return found
        raise ConfigError(
            f"{self.component} has no topic {shown(name)} in {self.where}",
            remedy="give a directory whose definitions of this component have it, or another version of them",
        )

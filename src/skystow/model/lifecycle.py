"""The states of a component and who may change them: the law that SAL, OCS and `skystow control` share.

The numbers are those of SAL's summaryState. FAULT is no command: a component falls into it by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum

from skystow.errors import Refused


class Summary(IntEnum):
    DISABLED = 1
    ENABLED = 2
    FAULT = 3
    OFFLINE = 4
    STANDBY = 5


class Verb(StrEnum):
    START = "start"
    ENABLE = "enable"
    DISABLE = "disable"
    STANDBY = "standby"
    EXIT = "exit"


LAW: Mapping[tuple[Summary, Verb], Summary] = {
    (Summary.STANDBY, Verb.START): Summary.DISABLED,
    (Summary.DISABLED, Verb.ENABLE): Summary.ENABLED,
    (Summary.ENABLED, Verb.DISABLE): Summary.DISABLED,
    (Summary.DISABLED, Verb.STANDBY): Summary.STANDBY,
    (Summary.FAULT, Verb.STANDBY): Summary.STANDBY,
    (Summary.STANDBY, Verb.EXIT): Summary.OFFLINE,
}
"""Anything absent is unlawful; the picture in the docs is drawn from this table."""

MAY_FAULT = frozenset({Summary.STANDBY, Summary.DISABLED, Summary.ENABLED})


def obey(state: Summary, verb: Verb) -> Summary:
    """The state that `verb` leads to. Raises `Refused` where it is unlawful."""
    if (after := LAW.get((state, verb))) is None:
        lawful = [of.name for of, each in LAW if each is verb]
        raise Refused(f"{verb} is not lawful in {state.name}", remedy=f"it is in {' and '.join(lawful)}")
    return after

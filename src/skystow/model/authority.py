"""Who may command a component: the list that SAL's setAuthList changes, and the rule that reads it.

As ts_salobj has it: an identity is `user@host`, or the name of a component (`Name`, `Name:index`), which has no `@`.
Components may, unless they are on the list of those that may not; people may if they are on theirs, and whoever runs
the component himself always may. All of it is self-declared text: it keeps out mistakes, not enemies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from skystow.errors import Refused
from skystow.model.records import shown

MOST = 1000
"""Names on a list."""


@dataclass(frozen=True, slots=True)
class Authority:
    """`own`: our own name, and the identity of whoever runs us."""

    own: frozenset[str]
    users: frozenset[str] = frozenset()
    """Who may, `user@host` each."""
    barred: frozenset[str] = frozenset()
    """Components that may not: one of them (`Name:2`), or all of a name."""

    def allows(self, identity: str) -> bool:
        if identity in self.own:
            return True
        if "@" in identity:
            return identity in self.users
        return identity not in self.barred and identity.partition(":")[0] not in self.barred

    def changed(self, users: str, barred: str) -> Authority:
        """`a@b, c@d` replaces a list, `+a@b` adds to it, `-a@b` takes from it; "" leaves it empty.
        Raises `Refused` for what is no such list, or becomes too long."""
        return replace(self, users=_changed(self.users, users, people=True), barred=_changed(self.barred, barred))


def _changed(before: frozenset[str], text: str, *, people: bool = False) -> frozenset[str]:
    sign, names = (text[:1], text[1:]) if text[:1] in ("+", "-") else ("", text)
    named = frozenset(name for each in names.split(",") if (name := each.strip()))
    for name in sorted(named):
        if not name.isprintable() or " " in name or ("@" in name) != people:
            wanted = "user@host" if people else "the name of a component"
            raise Refused(f"‘{shown(name)}’ is not {wanted}; the list is unchanged")
    if len(before | named) > MOST:
        raise Refused(f"the list would have more than {MOST} names; it is unchanged")
    match sign:
        case "+":
            return before | named
        case "-":
            return before - named
        case _:
            return named


def listed(names: Iterable[str]) -> str:
    """As SAL's authList says it."""
    return ", ".join(sorted(names))

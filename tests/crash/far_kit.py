"""What the stories of far ends share: who runs there, what the program says of them, and the comparison at the end."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tests.crash.kit import Field
from tests.sshd import Sshd

PATIENT = ("--give-up-after", "60")


def remote(end: Sshd, *words: str) -> list[int]:
    """Processes at the other end whose command line has all of these."""
    return [pid for pid in end.children() if all(word in command(pid) for word in words)]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""  # it ended meanwhile


def below(pid: int) -> list[int]:
    """Every descendant of one of our processes, whichever of its threads started it."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, listed.read_text().split()):
                found += [child, *below(child)]
    return found


def blamed(made: Field, place: str) -> bool:
    """Whether `status` says that the place is not well, and of no other that."""
    places = made.status()["places"]
    sick = {name for name, health in places.items() if health.get("well") is False}
    assert sick <= {place}, places
    return sick == {place}


def swept(made: Field) -> None:
    """Once more, which sweeps what was left in staging while the other end was away."""
    made.finish()
    made.assert_whole(attempts=0)

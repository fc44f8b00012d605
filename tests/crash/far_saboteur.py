"""Stands where the remote `python3` stands, and kills the helper at one of its acts.

    python far_saboteur.py DIRECTORY -c PROGRAM

An act is a request that was heard (`hear publish`) or a call that changes the disk (`link`). All helpers of a test
write their acts into DIRECTORY/acts, one per line. DIRECTORY/plan says at which of them a helper dies, and is removed
by then: `before 2 link` (the third one), `after 0 hear publish`, or nothing.
"""

import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

CALLS = ("mkdir", "link", "unlink", "rmdir", "rename", "fsync", "fchmod", "utime")
HERE = sys.argv[1]


def noted(act: str) -> int:
    """Its number among those of its name."""
    with open(f"{HERE}/acts", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = file.read().splitlines().count(act)
        file.write(f"{act}\n")
    return number


def strike(when: str, number: int, act: str) -> None:
    try:
        with open(f"{HERE}/plan") as file:
            struck = file.read() == f"{when} {number} {act}"
    except FileNotFoundError:
        return
    if struck:
        plain_unlink(f"{HERE}/plan")
        os.kill(os.getpid(), signal.SIGKILL)


def around(act: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        number = noted(act)
        strike("before", number, act)
        try:
            return plain(*args, **named)
        finally:
            strike("after", number, act)

    return call


def hearing(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Requests are the only JSON that a helper reads."""

    def loads(text: str) -> Any:
        request = plain(text)
        act = f"hear {request['op']}"
        strike("after", noted(act), act)
        return request

    return loads


plain_unlink = os.unlink
for name in CALLS:
    setattr(os, name, around(name, getattr(os, name)))
json.loads = hearing(json.loads)
exec(sys.argv[3])  # noqa: S102 - as `python3 -c` does

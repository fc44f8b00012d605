"""Stands where the remote `python3` stands, and kills the helper at one of its acts.

    python far_saboteur.py DIRECTORY -c PROGRAM

An act is a request that was heard (`hear publish`) or a call that changes the disk (`link`). All helpers of a test
write their acts into DIRECTORY/acts, one per line; the number of its line is the number of an act. DIRECTORY/plan says
at which one of them its helper dies: `before 7`, `after 7`, or nothing.
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
with open(f"{HERE}/plan") as _file:
    PLAN = _file.read()


def noted(act: str) -> int:
    with open(f"{HERE}/acts", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = sum(1 for _ in file)
        file.write(f"{act}\n")
    return number


def strike(when: str, number: int) -> None:
    if f"{when} {number}" == PLAN:
        os.kill(os.getpid(), signal.SIGKILL)


def around(act: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        number = noted(act)
        strike("before", number)
        try:
            return plain(*args, **named)
        finally:
            strike("after", number)

    return call


def hearing(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Requests are the only JSON that a helper reads."""

    def loads(text: str) -> Any:
        request = plain(text)
        strike("after", noted(f"hear {request['op']}"))
        return request

    return loads


for name in CALLS:
    setattr(os, name, around(name, getattr(os, name)))
json.loads = hearing(json.loads)
exec(sys.argv[3])  # noqa: S102 - as `python3 -c` does

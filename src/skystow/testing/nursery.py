"""Runs the real program many times, each in a process of its own, but imports it only once: half a second saved a run.

    python -m skystow.testing.nursery

reads jobs from stdin, one JSON object a line: `plan` (see `saboteur`; {}: undisturbed; null: not even watched),
`arguments`, `cwd`, `env`, and the files `out` and `err`. Each is run by a fork of this process. Answers on stdout:
`PID` when it starts, and `PID STATUS` (see `os.waitstatus_to_exitcode`) when it has ended.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import runpy
import sys
import tempfile
from typing import Any

import skystow
from skystow.testing.saboteur import sabotage


def warm_up() -> None:
    for module in pkgutil.walk_packages(skystow.__path__, "skystow."):
        if not module.name.startswith(("skystow.testing", "skystow.__main__")) and ".migrations." not in module.name:
            importlib.import_module(module.name)
    dialects = [f"sqlalchemy.dialects.{each}" for each in ("sqlite.pysqlite", "mysql.pymysql", "postgresql.psycopg")]
    for late in ("alembic.command", "alembic.config", "pymysql", "psycopg", *dialects):
        importlib.import_module(late)


def next_job() -> dict[str, Any] | None:
    """In the parent: until there are no more jobs. In each child: its job."""
    for line in iter(sys.stdin.readline, ""):
        job: dict[str, Any] = json.loads(line)
        child = os.fork()
        if child == 0:
            return job
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(child, os.waitstatus_to_exitcode(status), flush=True)
    return None


def become(job: dict[str, Any]) -> None:
    """Take the place of a program that was started so."""
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, job["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, job["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    tempfile.tempdir = None  # it may be another in this environment
    if job["plan"] is None:
        sys.argv = ["skystow", *job["arguments"]]
        runpy.run_module("skystow", run_name="__main__")  # as python -m skystow does
    else:
        sabotage(job["plan"], job["arguments"])


if __name__ == "__main__":
    warm_up()
    if (mine := next_job()) is not None:
        become(mine)

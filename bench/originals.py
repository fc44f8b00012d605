"""What others do over SSH, for bench/ssh.py: the original's loop, suprsync, rclone.

The original archiver starts one `rsync HOST:FILE FILE` without options for each file, and so a connection for each.
suprsync (PyPI `socs`, its own code, in a virtual environment that is made for it) pushes batches by one rsync and asks
the other end for the MD5 of each file; the MD5 here, which its instrument computes when a file is registered, and the
registration are not timed. Neither syncs anything or reads back what it wrote at its own end.

    python bench/originals.py loop SOURCE HOST DEST            one rsync for each file of HOST:SOURCE
    python bench/originals.py register SOURCE DATABASE         with socs
    python bench/originals.py suprsync DATABASE HOST DEST      with socs
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from importlib import import_module
from pathlib import Path

SOCS = "socs.db.suprsync"
BATCH = 1_000
ARCHIVE = "bench"


def wrappers(here: Path, ssh_config: Path) -> Path:
    """A directory for the front of PATH, whose `ssh` knows our server: their code calls plain ssh and rsync."""
    here.mkdir(exist_ok=True)
    ssh = here / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {ssh_config} "$@"\n')
    ssh.chmod(0o755)
    return here


def suprsync_python(here: Path) -> str | None:
    """The interpreter of an environment with suprsync and what it imports (socs wants far more, old versions of it),
    or None where it cannot be installed."""
    venv.create(here, with_pip=True)
    python = str(here / "bin/python")
    wanted = (["--no-deps", "socs"], ["sqlalchemy", "txaio", "twisted", "pyyaml"])
    for packages in wanted:
        done = subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=False, capture_output=True)
        if done.returncode:
            print(f"no suprsync: {done.stderr.decode(errors='replace').strip()}", file=sys.stderr)
            return None
    return python


def rclone(config: Path, source: Path, dest: str) -> list[str]:
    """`config` is that of an ssh client, as the fixture writes it."""
    said = dict(line.split() for line in config.read_text().splitlines() if len(line.split()) == 2)
    remote = (
        f":sftp,host={said['HostName']},port={said['Port']},user={said['User']},"
        f"key_file={said['IdentityFile']},known_hosts_file={said['UserKnownHostsFile']}:{source}"
    )
    return ["rclone", "--config", "/dev/null", "copy", "--transfers", "8", remote, dest]


def files_of(source: Path) -> list[Path]:
    return sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())


def loop(source: Path, host: str, dest: Path) -> None:
    for path in files_of(source):
        (dest / path).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["rsync", f"{host}:{source / path}", dest / path], check=True)


def register(source: Path, database: str) -> None:
    manager = import_module(SOCS).SupRsyncFilesManager(database)
    with manager.Session.begin() as session:
        for path in files_of(source):
            manager.add_file(str(source / path), str(path), ARCHIVE, session=session)


def suprsync(database: str, host: str, dest: str) -> None:
    socs = import_module(SOCS)
    manager = socs.SupRsyncFilesManager(database, create_all=False)
    handler = socs.SupRsyncFileHandler(manager, ARCHIVE, dest, ssh_host=host)
    while copied := handler.copy_files(max_copy_attempts=1, num_files=BATCH):
        if not all(well for _, well in copied):
            raise SystemExit("suprsync: an MD5 differs")


def main(task: str, *arguments: str) -> None:
    match task, arguments:
        case "loop", (source, host, dest):
            loop(Path(source), host, Path(dest))
        case "register", (source, database):
            register(Path(source), database)
        case "suprsync", (database, host, dest):
            suprsync(database, host, dest)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])

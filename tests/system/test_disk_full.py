"""A disk that is full, and is freed again; one that is read-only. On small tmpfs of our own, in a mount namespace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import os, sys
from pathlib import Path, PurePosixPath
from skystow.adapters.posix import PosixStore
from skystow.adapters.options import StoreOptions
from skystow.adapters.tree import LocalTree
from skystow.errors import NoRoom, NoSpace, ReadOnly, UnfitPlace, Unreachable
from skystow.testing.store_contract import Flag, finish, publish, stage, work_for

disk, source = Path(sys.argv[1]), Path(sys.argv[2])
sync = sys.argv[3]
tree = LocalTree(str(disk), place="store")
store = PosixStore("store", tree, {"source": LocalTree(str(source), place="source")},
                   StoreOptions(sync=sync))

def visible():
    return sorted(str(p.relative_to(disk)) for p in disk.rglob("*") if ".skystow" not in p.parts)
"""

FULL = """
filler = disk / "filler"
for size, free in ((100_000, 50_000), (3_000_000, 2_000_000)):  # written into a full disk; asked for in advance
    filler.write_bytes(bytes(4 * 2**20 - free))
    (source / "a").write_bytes(os.urandom(size))
    (source / "b").write_bytes(b"light")
    try:
        [(_, outcome)] = store.stage([work_for("a")], stop=Flag())
    except NoSpace as full:
        assert full.place == "store" and size < 2**20, full
    else:
        assert isinstance(outcome, NoRoom) and size > 2**20, outcome
    assert store.room().spare < size
    assert [f.ok for f in store.check(None) if f.subject == "space"] == [free > 4 * 2**20 * 0.05]
    assert visible() == ["filler"], visible()
    store.sweep("00c0ffee")
    filler.unlink()
    finish(store, stage(store, work_for("a"), work_for("b")))
    assert visible() == ["a", "b"]
    assert (disk / "a").read_bytes() == (source / "a").read_bytes()
    (disk / "a").unlink(); (disk / "b").unlink()
print("well")
"""

NO_INODES = """
(source / "a").write_bytes(b"light")
staged = stage(store, work_for("a", "d/e/f/a"))
n = 0
try:
    while True:
        (disk / f"filler{n}").touch()
        n += 1
except OSError:
    pass
try:
    publish(store, staged[0])
except NoSpace:
    pass
else:
    raise AssertionError("it fitted")
assert not any(name.endswith("/a") for name in visible())
for i in range(n):
    (disk / f"filler{i}").unlink()
publish(store, staged[0])
store.sync(staged)
store.drop(staged)
assert (disk / "d/e/f/a").read_bytes() == b"light"
print("well")
"""

READ_ONLY = """
(source / "a").write_bytes(b"light")
staged = stage(store, work_for("a"))
assert os.system("mount -o remount,ro " + str(disk)) != 0, "a file is open for writing"
finish(store, staged)
tree.forget()
assert os.system("mount -o remount,ro " + str(disk)) == 0
try:
    stage(store, work_for("a", "b"))
except ReadOnly as refused:
    assert refused.place == "store"
else:
    raise AssertionError("it was written")
assert not all(finding.ok for finding in store.check(None))
assert visible() == ["a"]
print("well")
"""

UNMOUNTED = """
(source / "a").write_bytes(b"light")
finish(store, stage(store, work_for("a")))
assert os.system("umount -l " + str(disk)) == 0
try:
    stage(store, work_for("a", "b"))
except Unreachable as gone:
    assert gone.place == "store"
else:
    raise AssertionError("it was written to the mount point")
assert list(disk.iterdir()) == []
print("well")
"""

OTHER_DEVICE = """
(disk / "sub").mkdir()
assert os.system("mount -t tmpfs none " + str(disk / "sub")) == 0
(source / "a").write_bytes(b"light")
staged = stage(store, work_for("a", "sub/a"))
try:
    publish(store, staged[0])
except UnfitPlace as unfit:
    assert "another device" in str(unfit)
else:
    raise AssertionError("it was published")
store.drop(staged)
assert visible() == ["sub"]
print("well")
"""

MOUNT = 'mount -t tmpfs -o size=4m,nr_inodes=200 none "$1" && exec "$2" -c "$3" "$1" "$4" "$5"'


@pytest.mark.parametrize("sync", ["auto", "fsync"])
@pytest.mark.parametrize(
    "story",
    [FULL, NO_INODES, READ_ONLY, UNMOUNTED, OTHER_DEVICE],
    ids=["full", "no inodes", "read-only", "unmounted", "another device below"],
)
def test_a_disk_that_fails(tmp_path: Path, story: str, sync: str) -> None:
    disk, source = tmp_path / "disk", tmp_path / "source"
    disk.mkdir()
    source.mkdir()
    shell = ["sh", "-c", MOUNT, "sh", str(disk), sys.executable, PRELUDE + story, str(source), sync]
    done = subprocess.run(["unshare", "-rm", *shell], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr

"""What happens to a source, or to the staging area, while a file is on its way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skystow.model.transfer import State, Step
from tests.crash.kit import (
    ONE_STREAM,
    Field,
    content_of,
    make_field,
    resume,
    staged_files,
    wait_for_stop,
    watched,
)

FIRST_WRITE = {"act": "write", "at": 0, "when": "after"}


def on_its_way(made: Field) -> bytes:
    """The one file whose bytes have landed in staging."""
    (staged,) = [path for path in staged_files(made.dest) if path.stat().st_size]
    (name,) = [name for name, content in made.truth.items() if content == staged.read_bytes()]
    return name


def texts(made: Field, name: bytes, step: Step) -> list[str]:
    return [event.text for event in made.dossier(name).events if event.step is step]


@pytest.mark.parametrize("how", ["grows", "shrinks", "is rewritten", "is replaced"])
def test_a_file_changes_while_it_is_copied(tmp_path: Path, how: str) -> None:
    """Retried; what is archived is the changed file, whole."""
    made = make_field(tmp_path, 3)
    with watched(made) as seen, made.started({"freeze": FIRST_WRITE}, *ONE_STREAM) as process:
        wait_for_stop(process)
        name = on_its_way(made)
        path, old = made.at_source(name), made.truth[name]
        new = {"grows": old + b"more", "shrinks": old[:-1]}.get(how, bytes(reversed(old)))
        if how == "is replaced":
            os.unlink(path)
        made.write(name, new)
        code, said, err = resume(process)
    assert (code, seen) == (0, []), err
    assert (said["archived"], said["failed"]) == (3, 0)
    assert content_of(path) == new
    made.assert_whole(attempts=1)
    assert any("changed while it was copied" in text for text in texts(made, name, Step.RETRY))
    assert [copy.attempts for dossier in made.dossiers() for copy in dossier.copies].count(1) == 1


@pytest.mark.timeout(180)
def test_a_source_vanishes_between_admission_and_copy(tmp_path: Path) -> None:
    """It is tried again, then named and left to a person; the others are archived."""
    made = make_field(tmp_path, 4)
    with watched(made) as seen, made.started({"freeze": FIRST_WRITE}, *ONE_STREAM) as process:
        wait_for_stop(process)
        gone = next(name for name in made.truth if name != on_its_way(made))
        os.unlink(made.at_source(gone))
        code, said, err = resume(process)
    assert (code, seen) == (3, []), err
    assert (said["archived"], said["quarantined"], said["failed"]) == (3, 1, 0)
    assert [(problem["path"], problem["fault"]) for problem in said["problems"]] == [(os.fsdecode(gone), "missing")]
    (copy,) = made.dossier(gone).copies
    assert (copy.state, copy.attempts) == (State.QUARANTINED, 5)
    del made.truth[gone]
    made.assert_whole()


def test_bits_flip_in_staging_before_the_digest(tmp_path: Path) -> None:
    """What landed is read back: it is never published, and the next attempt is right."""
    made = make_field(tmp_path, 3)
    with watched(made) as seen, made.started({"freeze": FIRST_WRITE}, *ONE_STREAM) as process:
        wait_for_stop(process)
        name = on_its_way(made)
        (staged,) = [path for path in staged_files(made.dest) if path.stat().st_size]
        with staged.open("r+b") as file:
            first = file.read(1)
            file.seek(0)
            file.write(bytes([first[0] ^ 0x10]))
        code, said, err = resume(process)
    assert (code, seen) == (0, []), err
    assert (said["archived"], said["failed"]) == (3, 0)
    made.assert_whole(attempts=1)
    (told,) = texts(made, name, Step.RETRY)
    assert "landed in archive" in told
    assert "was read from the source" in told
    assert sum(copy.attempts for dossier in made.dossiers() for copy in dossier.copies) == 1


def test_bits_flip_in_a_file_that_a_killed_run_left_in_staging(tmp_path: Path) -> None:
    """What an earlier claim staged is never taken up again."""
    made = make_field(tmp_path, 3)
    first = made.run({"kill": {"act": "fchmod", "at": 1, "when": "before"}}, *ONE_STREAM)
    assert first.returncode < 0
    left = staged_files(made.dest)
    assert len(left) == 3
    for path in left:
        path.chmod(0o600)
        path.write_bytes(b"rubbish")
    with watched(made) as seen:
        made.finish(*ONE_STREAM)
    assert seen == []
    made.assert_whole()

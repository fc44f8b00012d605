"""PysmurfArchiverAgent and what an operator may have got wrong: named, by the option or variable that it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.router import Router
from tests.servers import Server
from tests.system.cli_kit import until
from tests.system.ocs_kit import ARCHIVER, LIMIT, Station, archiver_entry, names, station

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def here(tmp_path: Path, router: Router, mariadb: Server) -> Iterator[Station]:
    with station(tmp_path / "s", router, mariadb) as made:
        made.configure(archiver_entry(made))
        yield made


def refused(here: Station, env: dict[str, str | None] | None = None) -> str:
    """It ends at once, with exit 2; what it said."""
    assert here.start(ARCHIVER, env=env).wait(LIMIT) == 2
    said = here.said(ARCHIVER)
    assert "Traceback" not in said
    return said


def test_variables_that_are_missing(here: Station) -> None:
    said = refused(here, env={"MYSQL_USER": None, "MYSQL_PASSWORD": None})
    assert "the environment has no MYSQL_USER, MYSQL_PASSWORD" in said


def test_an_argument_that_is_not_known(here: Station) -> None:
    here.configure(archiver_entry(here, ["--flavour", "vanilla"]))
    assert "--flavour" in refused(here)


def test_options_that_do_not_fit_together(here: Station) -> None:
    here.configure(archiver_entry(here, ["--host", "ann@smurf-srv"], ["--user", "ben"]))
    assert "--host says the user ann, --user says ben" in refused(here)


def test_a_password_that_is_wrong_and_then_a_target_that_nobody_is(here: Station) -> None:
    """It stays up, says so, and goes on when it is mended."""
    here.start(ARCHIVER, env={"MYSQL_PASSWORD": "wrong"})
    client = here.client(ARCHIVER)
    session = here.until(client, lambda session: session["degraded"])
    assert (session["status"], session["op_code"]) == ("running", 8)
    assert "Access denied" in session["data"]["fault"]
    assert client.run.stop()[0] == 0
    assert client.run.wait(timeout=30)[0] == 0
    here.stop(ARCHIVER)
    assert "wrong" not in here.said(ARCHIVER)

    here.configure(archiver_entry(here, ["--target", "nobody"]))
    here.start(ARCHIVER)
    client = here.client(ARCHIVER)
    session = here.until(client, lambda session: bool(session["data"].get("notes")))
    assert "is of target 'nobody'" in session["data"]["notes"][0]
    assert session["degraded"] is False


def test_a_data_directory_that_comes_later(here: Station) -> None:
    here.dst.rmdir()
    here.register(names(3))
    here.start(ARCHIVER)
    client = here.client(ARCHIVER)
    session = here.until(client, lambda session: session["degraded"])
    assert f"{here.dst}, which is not there" in session["data"]["fault"]
    here.dst.mkdir()
    here.until(client, lambda session: not session["degraded"] and session["data"]["archived"] == 3)
    until(lambda: here.copied() == 3)
    here.has_all(names(3))


def test_a_data_directory_that_may_not_be_written(here: Station) -> None:
    """As a user to whom permissions apply, whoever runs the tests."""
    here.dst.chmod(0o555)
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    here.start(ARCHIVER, prefix=powerless if os.geteuid() == 0 else [])
    session = here.until(here.client(ARCHIVER), lambda session: session["degraded"])
    here.dst.chmod(0o755)
    assert str(here.dst) in session["data"]["fault"]
    assert "permission denied" in session["data"]["fault"].lower()


def test_a_site_file_says_everything(here: Station) -> None:
    site = here.home / "site.yaml"
    site.write_text(f"""\
sources:
  - {{name: dome, kind: directory, root: {here.src}, quiet_for: 0}}
destinations:
  - {{name: vault, kind: posix, root: {here.dst}, min_free: 0}}
""")
    (here.src / "a.txt").write_text("starlight")
    here.configure(archiver_entry(here) | {"arguments": [["--skystow-site", str(site)]]})
    here.start(ARCHIVER, env={"MYSQL_HOST": None})
    client = here.client(ARCHIVER)
    session = here.until(client, lambda session: session["data"].get("archived") == 1)
    assert session["data"]["places"].keys() >= {"dome", "vault"}
    here.stop(ARCHIVER)
    here.configure(archiver_entry(here, ["--skystow-site", str(site)]))
    assert "would be ignored" in refused(here)

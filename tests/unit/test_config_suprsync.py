"""What a site file may say of suprsync's database."""

from __future__ import annotations

import pytest

from skystow.config import SuprSync, read
from skystow.errors import ConfigError

SITE = """\
ledger: sqlite:///ledger.db
sources:
  - name: smurf
    kind: suprsync
    database: suprsync.db
    archives: [smurf, timestreams]
    root: /data
    within: [/data/smurf, /data/g3]
    copied_when: [remote]
    retire: {after: 7d}
    finalize: {instance_id: suprsync-smurf, file_root: /data/suprsync}
destinations:
  - {name: remote, kind: remote, host: data@far, root: /archive}
"""


def test_everything_that_may_be_said() -> None:
    site = read(SITE, directory="/site")
    [source] = site.sources
    assert isinstance(source, SuprSync)
    assert (source.database, source.archives, source.poll) == ("/site/suprsync.db", ("smurf", "timestreams"), 10.0)
    assert [each.name for each in site.counted(source)] == ["remote"]
    assert source.finalize is not None
    assert source.finalize.instance_id == "suprsync-smurf"


def test_a_root_of_everything() -> None:
    assert read(SITE.replace("root: /data\n", "root: /\n"), directory="/site").sources


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("/data/g3]", "/date/g3]", "line 8: within: /date/g3 is not below root (/data)"),
        ("/data/g3]", "/data]", "line 8: within: /data is not below root (/data)"),
        ("/data/g3]", "/data/../etc]", "line 8: within: /data/../etc is not below root (/data)"),
        ("file_root: /data/suprsync", "file_root: suprsync", "line 11: file_root: suprsync is not below root (/data)"),
        ("archives: [smurf, timestreams]", "archives: []", "line 6: sources[0].archives:"),
        ("[smurf, timestreams]", "[smurf/../x]", "line 6: sources[0].archives[0]:"),
        ("instance_id: suprsync-smurf", "instance_id: ../x", "line 11: sources[0].finalize.instance_id:"),
        ("instance_id: suprsync-smurf, ", "", "'instance_id' is missing"),
        ("    database: suprsync.db\n", "", "'database' is missing"),
        ("copied_when: [remote]", "copied_when: [remoto]", "line 9: copied_when: no destination is called 'remoto'"),
        ("finalize:", "finalise:", "unknown key sources[0].finalise"),
        ("kind: suprsync", "kind: supersync", "did you mean"),
        ("    root: /data\n", "    root: /data\n    host: far\n", "unknown key sources[0].host"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, told: str) -> None:
    assert old in SITE
    with pytest.raises(ConfigError) as error:
        read(SITE.replace(old, new), directory="/site")
    assert any(told in problem for problem in error.value.problems), error.value.problems

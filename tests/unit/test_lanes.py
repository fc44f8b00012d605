"""Which store serves which route of a site."""

from __future__ import annotations

from pathlib import Path

from skystow.adapters.posix import PosixStore
from skystow.adapters.remote.pull import PullStore
from skystow.config import load
from skystow.model.transfer import RetryPolicy
from skystow.wiring.ends import Ends, site_lanes, site_tree

SITE = """\
ledger: sqlite:///ledger.db
sources:
  - {name: here, kind: directory, root: here}
  - {name: one, kind: directory, host: one, root: /data}
  - {name: two, kind: directory, host: two, root: /data}
destinations:
  - {name: archive, kind: posix, root: dst, bwlimit: 10MB/s}
"""


def test_a_bandwidth_limit_is_the_destination_s_whatever_its_files_come_from(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    site, ends = load(str(tmp_path / "site.yaml")), Ends()
    trees = {each.name: site_tree(each, ends) for each in (*site.sources, *site.destinations)}
    stores = {lane.route.source: lane.store for lane in site_lanes(site, ends, trees, RetryPolicy())}
    assert stores["one"] is stores["two"]
    local, remote = stores["here"], stores["one"]
    assert isinstance(local, PosixStore)
    assert isinstance(remote, PullStore)
    assert [store.options.bwlimit for store in (local, remote)] == [5_000_000, 5_000_000]

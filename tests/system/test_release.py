"""Names of many files that have passed through a place of ours go together."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from skystow.engine.retire import release
from skystow.errors import Missing
from tests.system.landing_kit import LINKS, NEVER, OBSID, Staging, arrival, frame


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path)


def test_many_names_go_at_once_but_not_what_is_owed(staging: Staging) -> None:
    names = [f"{OBSID}-R22S0{sensor}.fits" for sensor in range(3)]
    paths = [staging.put(name, frame(f"R22_S0{sensor}")) for sensor, name in enumerate(names)]
    adopted = [staging.adopted(staging.said(path, sensor=f"0{n}")) for n, path in enumerate(paths)]
    for each in adopted[:2]:
        staging.linked(each)
    staging.ledger.admit([arrival(adopted[2])], LINKS)
    paths[1].unlink()  # by an earlier run, which was killed before it could write that down
    origins = [PurePosixPath(each.path) for each in adopted]
    for _ in range(2):
        assert release(staging.ledger, "staging", staging.tree, *origins, stop=NEVER) == origins[:2]
    assert [path.exists() for path in paths] == [False, False, True]
    retired = [staging.ledger.dossier(n) for origin in origins for n in staging.ledger.find(str(origin))]
    assert [each is not None and each.retired_at is not None for each in retired] == [True, True, False]


def test_one_that_cannot_go_keeps_no_other(staging: Staging) -> None:
    """Its name is a directory by now: somebody must look."""
    paths = [staging.put(f"{OBSID}-R22S0{sensor}.fits", frame(f"R22_S0{sensor}")) for sensor in range(2)]
    adopted = [staging.adopted(staging.said(path, sensor=f"0{n}")) for n, path in enumerate(paths)]
    for each in adopted:
        staging.linked(each)
    remove = staging.tree.unlink

    def racing(path: PurePosixPath, expected: object) -> None:
        if path.name == paths[0].name:
            paths[0].unlink()
        remove(path, expected)  # type: ignore[arg-type]

    staging.tree.unlink = racing  # type: ignore[method-assign]
    with pytest.raises(Missing):
        release(staging.ledger, "staging", staging.tree, *(PurePosixPath(each.path) for each in adopted), stop=NEVER)
    assert not paths[1].exists()
    second = staging.ledger.dossier(staging.ledger.find(adopted[1].path)[0])
    assert second is not None
    assert second.retired_at is not None

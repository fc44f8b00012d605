"""What every `skystow.ports.image.Catalogue` must do. A subclass supplies the fixtures `catalogue`; `beside`, the
same one as another process has it; and `clock`, its time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from skystow.adapters.memory import ManualClock
from skystow.errors import Conflict
from skystow.model.records import Digest
from skystow.ports.image import Catalogue, Frame


def frame(n: int = 1, sensor: str = "00", **more: Any) -> Frame:
    obsid = f"CC_O_20210304_{n:06}"
    made = Frame(
        obsid=obsid,
        day_obs=20210304,
        seq_num=n,
        raft="22",
        sensor=sensor,
        filter="r_03",
        exposure_time=15.5,
        path=PurePosixPath(f"/oods/2021-03-04/{obsid}-R22S{sensor}.fits"),
        size=16_000_000,
        digest=Digest("sha256", f"{n:060}{sensor:>04}"),
    )
    return replace(made, **more)


def names(page: Any) -> list[str]:
    return [found.path.name for _, found in page]


class CatalogueContract:
    def test_a_file_is_found_as_it_was_registered(
        self, catalogue: Catalogue, beside: Catalogue, clock: ManualClock
    ) -> None:
        assert catalogue.register([frame()]) == 1
        assert [found for _, found in beside.find()] == [replace(frame(), ingested_at=clock.now())]

    def test_to_register_again_changes_nothing(self, catalogue: Catalogue, clock: ManualClock) -> None:
        catalogue.register([frame(1), frame(1)])
        before = catalogue.find()
        clock.advance(60)
        assert catalogue.register([frame(1), frame(2), frame(2)]) == 1
        assert catalogue.register([]) == 0
        assert catalogue.find(obsid=frame(1).obsid) == before

    def test_other_content_of_the_same_path_is_a_conflict(self, catalogue: Catalogue, beside: Catalogue) -> None:
        catalogue.register([frame(1)])
        with pytest.raises(Conflict, match="CC_O_20210304_000001-R22S00"):
            beside.register([frame(2), frame(1, digest=Digest("sha256", "f" * 64))])
        with pytest.raises(Conflict):
            beside.register([frame(3), frame(3, digest=Digest("sha256", "f" * 64))])
        assert names(catalogue.find()) == [frame(1).path.name]

    def test_found_by_what_is_known_of_it(self, catalogue: Catalogue) -> None:
        frames = [frame(n, sensor) for n in (1, 2) for sensor in ("00", "01")]
        other = frame(3, day_obs=20210305, raft="01")
        catalogue.register([*frames, other])
        assert names(catalogue.find(day_obs=20210304)) == [each.path.name for each in frames]
        assert names(catalogue.find(obsid=frames[0].obsid)) == [each.path.name for each in frames[:2]]
        assert names(catalogue.find(day_obs=20210304, sensor="01")) == [frames[n].path.name for n in (1, 3)]
        assert names(catalogue.find(raft="01")) == [other.path.name]
        assert names(catalogue.find(path=other.path)) == [other.path.name]
        assert catalogue.find(path=PurePosixPath(str(other.path).upper())) == []
        assert catalogue.find(obsid="nothing", day_obs=10**15) == []

    def test_it_comes_in_pages(self, catalogue: Catalogue) -> None:
        catalogue.register([frame(n) for n in range(1_100)])
        first = catalogue.find()
        rest = catalogue.find(after=first[-1][0])
        assert (len(first), len(rest)) == (1_000, 100)
        assert names([*first, *rest]) == [frame(n).path.name for n in range(1_100)]
        assert catalogue.find(after=first[4][0], limit=3) == first[5:8]

    def test_what_expired_is_found_only_when_asked_for(
        self, catalogue: Catalogue, beside: Catalogue, clock: ManualClock
    ) -> None:
        catalogue.register([frame(1), frame(2)])
        began = clock.now()
        (one, _), (two, _) = catalogue.find()
        clock.advance(60)
        catalogue.expired([one], "older than 30 d")
        clock.advance(60)
        beside.expired([one, 10**9], "again")
        catalogue.expired([], "nothing")
        assert [number for number, _ in catalogue.find()] == [two]
        gone, there = (found for _, found in beside.find(expired=True))
        assert gone.expired_at is not None
        assert (gone.expired_at - began).total_seconds() == 60
        assert there.expired_at is None

    def test_what_came_back_after_it_expired_is_there_again(self, catalogue: Catalogue, clock: ManualClock) -> None:
        catalogue.register([frame(1)])
        ((number, _),) = catalogue.find()
        catalogue.expired([number], "older than 30 d")
        clock.advance(60)
        assert catalogue.register([frame(1)]) == 0
        assert catalogue.find() == [(number, replace(frame(1), ingested_at=clock.now()))]

    def test_expirable_are_the_old_ones_oldest_first(self, catalogue: Catalogue, clock: ManualClock) -> None:
        for n in range(6):
            catalogue.register([frame(n)])
            clock.advance(10)
        catalogue.expired([number for number, _ in catalogue.find(limit=2)], "gone")
        catalogue.register([frame(0)])  # back: now the youngest
        clock.advance(1)
        page = catalogue.expirable(older_than=20, after=0, limit=2)
        assert names(page) == [frame(n).path.name for n in (2, 3)]
        assert names(catalogue.expirable(older_than=20, after=page[-1][0], limit=9)) == [frame(4).path.name]
        assert catalogue.expirable(older_than=3600, after=0, limit=9) == []
        every = catalogue.expirable(older_than=0, after=0, limit=9)
        assert names(every) == [frame(n).path.name for n in (2, 3, 4, 5, 0)]

    def test_pages_of_one_moment_leave_none_out_while_they_expire(
        self, catalogue: Catalogue, clock: ManualClock
    ) -> None:
        catalogue.register([frame(n) for n in range(7)])
        clock.advance(1)
        seen, after = [], 0
        while page := catalogue.expirable(older_than=0, after=after, limit=3):
            catalogue.expired([number for number, _ in page], "watermark")
            seen += names(page)
            after = page[-1][0]
        assert seen == [frame(n).path.name for n in range(7)]

    def test_any_header_can_be_written_down(self, catalogue: Catalogue) -> None:
        odd = "望 \0 \ud800 " + "x" * 70_000
        path = PurePosixPath("/oods/\udcff\n" + "d/" * 900)
        made = frame(filter=odd, raft=odd, exposure_time=math.nan, seq_num=2**80, path=path)
        catalogue.register([replace(made, sensor=odd)])
        ((_, found),) = catalogue.find(path=path, raft=odd)
        assert found.path == path
        assert math.isnan(found.exposure_time)
        assert found.filter.endswith("xxx")

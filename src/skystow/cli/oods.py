"""`skystow oods find`: the OODS's table of files."""

from __future__ import annotations

from collections.abc import Iterator

from skystow.cli.exits import Exit
from skystow.cli.present import columns, emit, say
from skystow.model.records import shown
from skystow.ports.image import Catalogue, Frame
from skystow.wiring.image import open_catalogue

PAGE = 1_000


def find(
    site: str,
    *,
    day_obs: int | None,
    obsid: str | None,
    raft: str | None,
    sensor: str | None,
    expired: bool,
    json: bool,
) -> Exit:
    with open_catalogue(site) as catalogue:
        found = list(_every(catalogue, day_obs, obsid, raft, sensor, expired))
    if json:
        emit({"frames": [_plain(each) for each in found]})
    elif not found:
        say("No such files.")
    else:
        rows = [["exposure", "raft", "sensor", "day", "number", "filter", "seconds", "path"]]
        for each in found:
            what = [each.obsid, each.raft, each.sensor, str(each.day_obs), str(each.seq_num), shown(each.filter)]
            gone = " (expired)" if each.expired_at else ""
            rows.append([*what, f"{each.exposure_time:g}", shown(each.path) + gone])
        say(*columns(rows))
    return Exit.WELL


def _every(
    catalogue: Catalogue, day_obs: int | None, obsid: str | None, raft: str | None, sensor: str | None, expired: bool
) -> Iterator[Frame]:
    after = 0
    while page := catalogue.find(
        day_obs=day_obs, obsid=obsid, raft=raft, sensor=sensor, expired=expired, after=after, limit=PAGE
    ):
        yield from (frame for _, frame in page)
        after = page[-1][0]


def _plain(each: Frame) -> dict[str, object]:
    return {
        "obsid": each.obsid,
        "day_obs": each.day_obs,
        "seq_num": each.seq_num,
        "raft": each.raft,
        "sensor": each.sensor,
        "filter": each.filter,
        "exposure_time_s": each.exposure_time,
        "path": each.path,
        "size": each.size,
        "digest": each.digest,
        "ingested_at": each.ingested_at,
        "expired_at": each.expired_at,
    }

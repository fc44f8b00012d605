"""The part of the composition root for sources whose files are the rows of somebody else's table: each kind is a line
in `STEPS` and in `open_tables`, and a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skystow.config import PysmurfFiles, Retirement, Rows, Site, SuprSync
from skystow.engine.retire import Policy, nothing
from skystow.errors import PlaceFault
from skystow.model.transfer import JOURNAL, Audience, Step
from skystow.ports import Announcer, Clock, Dossier, Finding, Ledger, Tree
from skystow.wiring import pysmurf, suprsync
from skystow.wiring.opened import Opened, place

if TYPE_CHECKING:
    from skystow.adapters.rows.source import RowSource


def tables(site: Site) -> list[Rows]:
    return [each for each in site.sources if isinstance(each, Rows)]


def audiences(site: Site) -> tuple[Audience, ...]:
    """Who is to be told of what happens to files: the journal, and each table."""
    told = [JOURNAL] if site.journal is not None else []
    return (*told, *(Audience(place(each), _steps(each), each.name) for each in tables(site)))


def _steps(config: Rows) -> frozenset[Step]:
    if isinstance(config, PysmurfFiles):
        from skystow.adapters.pysmurf_files import STEPS

        return STEPS
    from skystow.adapters.suprsync import STEPS as OF_SUPRSYNC

    return OF_SUPRSYNC


@dataclass(frozen=True, slots=True)
class Tables:
    """Of one site: sources by name, announcers by audience, what `skystow check` looks at, and what a table says
    against the removal of a file, by the source's name."""

    sources: dict[str, RowSource] = field(default_factory=dict)
    announcers: dict[str, Announcer] = field(default_factory=dict)
    doctors: list[Callable[[], Iterator[Finding]]] = field(default_factory=list)
    against: dict[str, Callable[[Dossier], str]] = field(default_factory=dict)

    def ailing(self, source: str) -> PlaceFault | None:
        """What else is wrong, as the last sweep of any source of the site found."""
        return self.sources[source].ailing if source in self.sources else None

    def policy(self, source: str, retire: Retirement) -> Policy:
        """Of any source of the site."""
        return Policy(retire.after, frozenset(retire.keep), self.against.get(source, nothing))


def open_tables(
    site: Site, origins: Mapping[str, Tree], ledger: Ledger, clock: Clock, *, only_look: bool = False
) -> Tables:
    """`origins` are the trees of the files, by the source's name. `only_look`: a sweep does nothing else."""
    made = Tables()
    for each in tables(site):
        one = _opened(each, site, origins[each.name], ledger, clock, only_look=only_look)
        made.sources[each.name] = one.source
        made.announcers[place(each)] = one.announcer
        made.doctors.append(one.doctor)
        made.against[each.name] = one.against
    return made


def _opened(config: Rows, site: Site, tree: Tree, ledger: Ledger, clock: Clock, *, only_look: bool) -> Opened:
    if isinstance(config, SuprSync):
        return suprsync.opened(config, site, tree, ledger, clock, only_look=only_look)
    return pysmurf.opened(config, site, tree, ledger)

"""Directives whose pictures and tables are made from the program when the docs are built, so that they cannot say
anything else than it does: `transfer-states` from `skystow.model.transfer.TRANSITIONS`, `layout-fields` from
`skystow.model.layout.FIELDS`, `row-fields` from its `ROW_FIELDS`. The states have fixed corners in the picture; a state
without one fails the build.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from skystow.model.layout import FIELDS, ROW_FIELDS
from skystow.model.transfer import TRANSITIONS, State, Step

WIDTH, HEIGHT = 150, 44
CORNERS = {  # the middle of each box
    State.WAITING: (300, 190),
    State.DONE: (640, 190),
    State.QUARANTINED: (300, 420),
    State.CANCELLED: (640, 420),
}
LABELS = {  # where the steps of an arrow are written: x, y of the first line, and how the lines are aligned
    (State.WAITING, State.WAITING): (340, 75, "end"),
    (State.DONE, State.DONE): (680, 105, "end"),
    (State.WAITING, State.DONE): (470, 180, "middle"),
    (State.WAITING, State.QUARANTINED): (318, 310, "start"),
    (State.QUARANTINED, State.WAITING): (282, 302, "end"),
    (State.WAITING, State.CANCELLED): (484, 285, "start"),
    (State.CANCELLED, State.WAITING): (476, 335, "end"),
    (State.QUARANTINED, State.CANCELLED): (470, 438, "middle"),
}
LINE = 15

Edges = Mapping[tuple[State, State], list[Step]]


def edges() -> Edges:
    found: dict[tuple[State, State], list[Step]] = defaultdict(list)
    for (before, step), after in TRANSITIONS.items():
        found[before, after].append(step)
    return found


def svg(found: Edges) -> str:
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="190 60 560 410" role="img" font-family="sans-serif" '
        'font-size="13" aria-label="states of a transfer" style="max-width: 48rem; width: 100%">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="currentColor"/></marker></defs>',
    ]
    for (before, after), steps in found.items():
        parts.append(f'<path d="{_path(before, after)}" fill="none" stroke="currentColor" marker-end="url(#tip)"/>')
        x, y, anchor = LABELS[before, after]
        parts += [
            f'<text x="{x}" y="{y + LINE * n}" text-anchor="{anchor}" fill="currentColor">{escape(step)}</text>'
            for n, step in enumerate(steps)
        ]
    for state in State:
        x, y = CORNERS[state]
        parts.append(
            f'<rect x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}" rx="6" '
            f'fill="none" stroke="currentColor" stroke-width="2"/>'
            f'<text x="{x}" y="{y + 5}" text-anchor="middle" font-weight="bold" fill="currentColor">'
            f"{escape(state.name)}</text>"
        )
    return "".join([*parts, "</svg>"])


def _path(before: State, after: State) -> str:
    (x, y), (u, v) = CORNERS[before], CORNERS[after]
    if before is after:
        top = y - HEIGHT // 2
        return f"M{x + 60} {top} C{x + 130} {top - 60}, {x + 20} {top - 60}, {x + 45} {top}"
    across, down = (u > x) - (u < x), (v > y) - (v < y)
    aside = 0 if not down else 10 if before.value > after.value else -10  # there and back do not lie on each other
    reach = across * (WIDTH // 2 - 2 * abs(aside))
    return f"M{x + reach + aside} {y + down * HEIGHT // 2} L{u - reach + aside} {v - down * HEIGHT // 2}"


def matrix(found: Edges) -> nodes.table:
    """Rows: the state before. Columns: the state after. Cells: the steps that lead from one to the other."""
    head = ["from \\ to", *(state.name for state in State)]
    return table(head, [[a.name, *(", ".join(found.get((a, b), ["–"])) for b in State)] for a in State])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> nodes.table:
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += [nodes.thead("", _row(head)), nodes.tbody("", *map(_row, rows))]
    return nodes.table("", group)


def _row(cells: Sequence[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=cell)) for cell in cells))


class TransferStates(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        found = edges()
        return [nodes.raw("", svg(found), format="html"), matrix(found)]


class LayoutFields(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [table(["field", "meaning"], [[f"{{{name}}}", meaning] for name, (_, meaning) in FIELDS.items()])]


class RowFields(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        plain = {name: meaning.replace("`", "") for name, meaning in ROW_FIELDS.items()}
        return [table(["field", "meaning"], [[f"{{{name}}}", meaning] for name, meaning in plain.items()])]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("transfer-states", TransferStates)
    app.add_directive("layout-fields", LayoutFields)
    app.add_directive("row-fields", RowFields)
    app.setup_extension("component_states")
    return {"parallel_read_safe": True, "parallel_write_safe": True}

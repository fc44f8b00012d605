"""The directive `component-states`: the picture and the table of `skystow.model.lifecycle.LAW`, made when the docs are
built. A state or a way that has no place in the picture fails the build.

Colours are those of the theme, so that the picture is as readable by night as by day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from xml.sax.saxutils import escape

from docutils import nodes
from from_program import table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from skystow.model.lifecycle import LAW, MAY_FAULT, Summary, Verb

WIDTH, HEIGHT = 148, 50
MIDDLES = {  # of each box; what is above is nearer to work
    Summary.ENABLED: (176, 45),
    Summary.DISABLED: (176, 155),
    Summary.STANDBY: (176, 265),
    Summary.OFFLINE: (176, 375),
    Summary.FAULT: (456, 155),
}


class Way(NamedTuple):
    """An arrow's path, from border to border, and where its word stands: x, y, and how it is aligned."""

    path: str
    label: tuple[int, int, str]


UP, DOWN = 146, 206
WAYS = {
    (Summary.STANDBY, Summary.DISABLED): Way(f"M{UP} 240 L{UP} 180", (UP - 10, 215, "end")),
    (Summary.DISABLED, Summary.ENABLED): Way(f"M{UP} 130 L{UP} 70", (UP - 10, 105, "end")),
    (Summary.ENABLED, Summary.DISABLED): Way(f"M{DOWN} 70 L{DOWN} 130", (DOWN + 10, 105, "start")),
    (Summary.DISABLED, Summary.STANDBY): Way(f"M{DOWN} 180 L{DOWN} 240", (DOWN + 10, 215, "start")),
    (Summary.STANDBY, Summary.OFFLINE): Way("M176 290 L176 350", (186, 325, "start")),
    (Summary.FAULT, Summary.STANDBY): Way("M472 180 C472 256, 416 278, 250 278", (460, 260, "start")),
}
FALLS = {
    Summary.ENABLED: "M250 45 C376 45, 456 58, 456 130",
    Summary.DISABLED: "M250 155 L382 155",
    Summary.STANDBY: "M250 253 C372 253, 432 236, 432 180",
}
NOTE = (456, 352, ("dashed: by itself,", "when something fails;", "never by a command"))

INK = "var(--color-foreground-primary, #000)"
QUIET = "var(--color-foreground-muted, #6b6f76)"
PAPER = "var(--color-background-secondary, #f8f9fb)"
ALARM = "var(--color-problematic, #b30000)"
BORDERS = {
    Summary.ENABLED: "var(--color-brand-primary, #0a4bff)",
    Summary.FAULT: ALARM,
    Summary.OFFLINE: QUIET,
}

Law = Mapping[tuple[Summary, Verb], Summary]


def svg(law: Law, may_fault: Iterable[Summary]) -> str:
    return "".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 410" role="img" class="component-states" '
            'font-size="15" aria-labelledby="component-states-title" style="display: block; margin: 1.5rem auto; '
            'max-width: 36rem; width: 100%; font-family: var(--font-stack, sans-serif)">',
            '<title id="component-states-title">States of a component, and the commands between them</title>',
            f"<defs>{_tip('step-tip', INK)}{_tip('fall-tip', ALARM)}</defs>",
            *(_fall(before) for before in sorted(may_fault)),
            *(_step(before, verb, after) for (before, verb), after in law.items()),
            *map(_box, Summary),
            _note(),
            "</svg>",
        ]
    )


def _tip(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5 L10 5 L0 9.5 L2.5 5 z" style="fill: {colour}"/>'
        "</marker>"
    )


def _fall(before: Summary) -> str:
    return (
        f'<g class="fall" data-from="{before.name}" data-to="{Summary.FAULT.name}">'
        f'<path d="{FALLS[before]}" fill="none" stroke-width="1.5" stroke-dasharray="5 4" style="stroke: {ALARM}" '
        'marker-end="url(#fall-tip)"/></g>'
    )


def _step(before: Summary, verb: Verb, after: Summary) -> str:
    path, (x, y, anchor) = WAYS[before, after]
    return (
        f'<g class="step" data-from="{before.name}" data-to="{after.name}">'
        f'<path d="{path}" fill="none" stroke-width="1.5" style="stroke: {INK}" marker-end="url(#step-tip)"/>'
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" style="fill: {INK}">{escape(verb)}</text></g>'
    )


def _box(state: Summary) -> str:
    x, y = MIDDLES[state]
    border = BORDERS.get(state, INK)
    return (
        f'<g class="state"><rect x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}" rx="12" '
        f'stroke-width="2" style="fill: {PAPER}; stroke: {border}"/><text x="{x}" y="{y + 5}" text-anchor="middle" '
        f'font-weight="600" letter-spacing="0.5" style="fill: {border}">{escape(state.name)}</text></g>'
    )


def _note() -> str:
    x, y, lines = NOTE
    spans = "".join(f'<tspan x="{x}" y="{y + 18 * n}">{escape(line)}</tspan>' for n, line in enumerate(lines))
    return f'<text class="note" font-size="13" text-anchor="middle" style="fill: {QUIET}">{spans}</text>'


def matrix(law: Law) -> nodes.table:
    """Rows: the state before. Columns: the command. Cells: the state after; a dash is a refusal."""
    rows = [[state.name, *(_after(law, state, verb) for verb in Verb)] for state in _in_order()]
    return table(["in", *Verb], rows)


def _in_order() -> list[Summary]:
    """As in the picture, from the bottom up."""
    return sorted(Summary, key=lambda state: (MIDDLES[state][0], -MIDDLES[state][1]))


def _after(law: Law, state: Summary, verb: Verb) -> str:
    after = law.get((state, verb))
    return after.name if after is not None else "–"


class ComponentStates(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", svg(LAW, MAY_FAULT), format="html"), matrix(LAW)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("component-states", ComponentStates)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""A log that nobody can fill."""

from __future__ import annotations

from skystow.service.complaints import LINES, QUIET, Complaints


def test_one_line_of_each_sender_and_a_bound_for_all() -> None:
    said: list[str] = []
    complaints = Complaints(said.append)
    for n in range(10_000):
        complaints.refuse(f"invented {n}", "why", 1_000.0)
        complaints.refuse("one", "why", 1_000.0)
    assert len(said) == LINES
    assert sum("of one is" in text for text in said) == 1
    complaints.refuse("one", "why", 1_000.0 + QUIET)
    unsaid, again = said[LINES:]
    assert int(unsaid.split()[0]) > 9_000
    assert unsaid.endswith("more complaints were not logged")
    assert again == said[1]


def test_a_clock_that_is_set_back_keeps_nobody_quiet() -> None:
    said: list[str] = []
    complaints = Complaints(said.append)
    for at in (5_000.0, 1_000.0, 1_001.0):
        complaints.refuse("one", "why", at)
    assert len(said) == 2

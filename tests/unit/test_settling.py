"""The rule of quiet, without files."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skystow.adapters.settling import Settling

QUIET = 10.0


def sweep(settling: Settling, files: dict[bytes, int], now: float) -> set[bytes]:
    settling.begin()
    finished = {key for key, look in files.items() if settling.finished(key, look, told=False, now=now)}
    settling.end(complete=True)
    return finished


@given(st.lists(st.tuples(st.floats(0, 8), st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 3)))))
def test_a_file_is_finished_when_its_look_was_the_same_at_every_sweep_for_long_enough(
    sweeps: list[tuple[float, dict[bytes, int]]],
) -> None:
    settling = Settling(QUIET)
    now = 0.0
    since: dict[bytes, tuple[int, float]] = {}  # the rule, told plainly: look, and when it was first seen
    for passed, looks in sweeps:
        now += passed
        files = {key: hash((key, look)) for key, look in looks.items()}
        since = {
            key: since[key] if key in since and since[key][0] == look else (look, now) for key, look in files.items()
        }
        wanted = {key for key, (_, first) in since.items() if now - first >= QUIET}
        assert sweep(settling, files, now) == wanted
        assert settling.pending.keys() == files.keys() - wanted


def test_the_first_that_will_be_quiet_is_waited_for() -> None:
    settling = Settling(QUIET)
    assert settling.next_due(0) is None
    sweep(settling, {b"a": 1}, 100)
    sweep(settling, {b"a": 1, b"b": 2}, 104)
    assert settling.next_due(104) == 6
    assert settling.next_due(200) == 0
    assert sweep(settling, {b"a": 1, b"b": 2}, 110) == {b"a"}
    assert settling.next_due(110) == 4


def test_looks_are_hashes_of_either_sign() -> None:
    settling = Settling(QUIET)
    files = {bytes([i]): (-1) ** i * (2**62 + i) for i in range(100)}
    assert sweep(settling, files, 0) == set()
    assert sweep(settling, files, QUIET) == files.keys()
    assert sweep(settling, files, QUIET) == files.keys()

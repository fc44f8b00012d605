"""The ledger's contract, fifth part: dead letters, files that failed too often before, and who the ledger is."""

from __future__ import annotations

from dataclasses import replace

from skystow.model.records import DeadLetter
from skystow.model.transfer import State, Step, mark_of
from skystow.testing.ledger_kit import ANNA, CAMERA, CHAIN, HANDOFF, Desk, arrival, unlawful


def letter(key: bytes, reason: str = "no such shape", source: str = CAMERA) -> DeadLetter:
    return DeadLetter(source, key, reason)


class Letters:
    """`bury`, `buried`, `dead_letters`, `exhume`."""

    def test_what_is_buried_is_known_and_can_be_listed(self, desk: Desk) -> None:
        assert desk.ledger.bury([letter(b"1"), letter(b"\xff"), letter(b"1", source="other")]) == 3
        found = desk.ledger.dead_letters(after=0, limit=9)
        assert [(d.source, d.key, d.reason) for d in found] == [
            (CAMERA, b"1", "no such shape"),
            (CAMERA, b"\xff", "no such shape"),
            ("other", b"1", "no such shape"),
        ]
        assert [d.at for d in found] == [desk.clock.now()] * 3
        assert desk.ben.buried(CAMERA, [b"1", b"2", b"\xff"]) == {b"1", b"\xff"}
        assert desk.ledger.buried("other", [b"2"]) == set()

    def test_they_come_in_pages_and_by_source(self, desk: Desk) -> None:
        desk.ledger.bury([letter(b"%d" % n, source=CAMERA if n % 2 else "other") for n in range(6)])
        first = desk.ledger.dead_letters(after=0, limit=4)
        rest = desk.ledger.dead_letters(after=first[-1].id, limit=4)
        assert [d.key for d in (*first, *rest)] == [b"%d" % n for n in range(6)]
        assert [d.key for d in desk.ledger.dead_letters(after=0, limit=9, source=CAMERA)] == [b"1", b"3", b"5"]

    def test_to_bury_again_says_the_new_reason_alone(self, desk: Desk) -> None:
        desk.ledger.bury([letter(b"1")])
        (first,) = desk.ledger.dead_letters(after=0, limit=9)
        desk.clock.advance(5)
        assert desk.ben.bury([letter(b"1", "worse"), letter(b"2")]) == 1
        assert desk.ledger.dead_letters(after=0, limit=1) == [replace(first, reason="worse")]

    def test_what_is_exhumed_is_forgotten(self, desk: Desk) -> None:
        desk.ledger.bury([letter(b"1"), letter(b"2")])
        (one, two) = desk.ledger.dead_letters(after=0, limit=9)
        assert desk.ben.exhume([one]) == 1
        assert desk.ledger.exhume([one]) == 0
        assert desk.ledger.dead_letters(after=0, limit=9) == [two]
        assert desk.ledger.buried(CAMERA, [b"1", b"2"]) == {b"2"}

    def test_a_batch_may_be_large_or_empty(self, desk: Desk) -> None:
        assert desk.ledger.bury([]) == 0
        keys = [b"%d" % n for n in range(1_000)]
        assert desk.ledger.bury([letter(key) for key in keys]) == 1_000
        assert desk.ledger.buried(CAMERA, keys) == set(keys)

    def test_any_reason_can_be_written_down(self, desk: Desk) -> None:
        desk.ledger.bury([letter(b"1", "NUL \0 and half of a pair \ud800 and 望")])
        (found,) = desk.ledger.dead_letters(after=0, limit=1)
        assert found.reason.endswith("望")


class Spent:
    """Arrivals whose source counts as many failures as are allowed."""

    def test_they_are_quarantined_at_once(self, desk: Desk) -> None:
        desk.admit(arrival("tired", attempts=5), arrival("weary", attempts=4), to=CHAIN)
        assert [w.source.path.name for w in desk.claim()] == ["weary"]
        copy = desk.copy("tired")
        assert (copy.state, copy.attempts, copy.fault) == (State.QUARANTINED, 5, "file")
        assert "5 failed attempts" in copy.error
        assert desk.steps("tired") == [Step.QUARANTINED]
        assert desk.copy("tired", HANDOFF.destination).blocked
        assert unlawful(desk.dossier("tired")) == []
        assert [n.kind for n in desk.ledger.notices(limit=9)] == [Step.QUARANTINED]

    def test_admitted_again_they_are_known(self, desk: Desk) -> None:
        desk.admit(arrival("tired", attempts=7))
        again = desk.admit(arrival("tired", attempts=7))
        assert (again.admitted, again.known) == (0, {State.QUARANTINED: 1})

    def test_a_person_may_have_them_tried_again(self, desk: Desk) -> None:
        desk.admit(arrival("tired", attempts=7))
        assert desk.ledger.requeue([desk.copy("tired")]) == 1
        work = desk.one()
        assert work.attempts == 0
        desk.deliver([work])
        assert desk.copy("tired").state is State.DONE


class Itself:
    def test_a_ledger_has_one_name_for_ever_and_for_all(self, desk: Desk) -> None:
        name = desk.ledger.identity()
        assert (len(name), int(name, 16) > 0) == (32, True)
        assert desk.ben.identity() == name
        assert desk.opened_by(replace(ANNA, pid=303), desk.clock).identity() == name

    def test_its_claims_are_known_by_its_name(self, desk: Desk) -> None:
        desk.admit("a", "b")
        [first], [second] = desk.claim(files=1), desk.claim(files=1, by=desk.ben)
        assert first.token != second.token
        assert {work.token[:8] for work in (first, second)} == {mark_of(desk.ledger.identity())}

"""What every `skystow.ports.talk.Scoreboard` must do. A subclass supplies the fixtures `board`; `beside`, the same one
as another process has it; and `pass_time(seconds)`."""

from __future__ import annotations

from collections.abc import Callable

from skystow.ports.talk import Listed, Scoreboard

PassTime = Callable[[float], None]
ODD = "a key 望 \ud800 \0 " + "x" * 5_000


def register(board: Scoreboard, name: str) -> None:
    board.register(name, f"forwarder/{name}", f"{name}_association")


def popped(board: Scoreboard) -> str | None:
    """Its name; what else is said of it is what was said."""
    if (found := board.pop()) is None:
        return None
    assert found[:3] == (found.name, f"forwarder/{found.name}", f"{found.name}_association")
    return found.name


class BoardContract:
    def test_a_key_lives_as_long_as_its_beats(self, board: Scoreboard, beside: Scoreboard, pass_time: PassTime) -> None:
        assert not board.alive("f99_association")
        board.beat("f99_association", "pong", 10.0)
        assert beside.alive("f99_association")
        pass_time(6.0)
        beside.beat("f99_association", "pong", 10.0)
        pass_time(6.0)
        assert board.alive("f99_association")
        pass_time(6.0)
        assert not board.alive("f99_association")
        assert not beside.alive("f99_association")
        board.beat("f99_association", "pong", 10.0)
        assert beside.alive("f99_association")

    def test_an_hours_absence(self, board: Scoreboard, beside: Scoreboard, pass_time: PassTime) -> None:
        board.beat("f99_association", "pong", 10.0)
        register(board, "f1")
        pass_time(3600.0)
        assert not beside.alive("f99_association")
        register(board, "f1")
        assert [popped(beside), popped(beside)] == ["f1", None]

    def test_keys_know_nothing_of_each_other(self, board: Scoreboard, pass_time: PassTime) -> None:
        board.beat("a", "1", 5.0)
        board.beat("A", "1", 90.0)
        board.beat(ODD, ODD, 90.0)
        pass_time(6.0)
        assert [board.alive(key) for key in ("a", "A", ODD, "")] == [False, True, True, False]

    def test_what_is_forgotten_is_dead_at_once(self, board: Scoreboard, beside: Scoreboard) -> None:
        board.beat("a", "", 60.0)
        beside.forget("a")
        beside.forget("a")
        assert not board.alive("a")

    def test_forwarders_are_taken_in_turn_once(self, board: Scoreboard, beside: Scoreboard) -> None:
        for name in ("f2", "f1", "F1"):
            register(board, name)
        assert popped(beside) == "f2"
        register(beside, "f2")
        assert [popped(board) for _ in range(4)] == ["f1", "F1", "f2", None]

    def test_to_register_again_keeps_the_turn(self, board: Scoreboard, beside: Scoreboard) -> None:
        for name in ("f1", "f2", "f1", "f1"):
            register(board, name)
        register(beside, "f1")
        assert [popped(board) for _ in range(3)] == ["f1", "f2", None]

    def test_the_list_does_not_expire_and_is_no_key(self, board: Scoreboard, pass_time: PassTime) -> None:
        register(board, "f1")
        board.beat("f2", "", 2.0)
        pass_time(3.0)
        assert not board.alive("f1")
        assert not board.alive("f2")
        board.forget("f1")
        board.beat("f3", "", 2.0)
        assert popped(board) == "f1"


class OwnBoardContract(BoardContract):
    """Of a scoreboard of ours alone, where a forwarder is known by its name, and all that it says is kept."""

    def test_what_is_new_of_it_is_told(self, board: Scoreboard) -> None:
        for name, address in (("f1", "old"), ("f2", "there"), ("f1", "new"), ("f1", "new")):
            board.register(name, address, ODD)
        assert [board.pop(), board.pop(), board.pop()] == [Listed("f1", "new", ODD), Listed("f2", "there", ODD), None]

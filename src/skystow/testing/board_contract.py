"""What every `skystow.ports.talk.Scoreboard` must do. A subclass supplies the fixtures `board`; `beside`, the same one
as another process has it; and `pass_time(seconds)`."""

from __future__ import annotations

from collections.abc import Callable

from skystow.ports.talk import Scoreboard

PassTime = Callable[[float], None]
ODD = "a key 望 \ud800 \0 " + "x" * 5_000


class BoardContract:
    def test_a_key_lives_as_long_as_its_beats(self, board: Scoreboard, beside: Scoreboard, pass_time: PassTime) -> None:
        assert not board.alive("f99_association")
        board.beat("f99_association", "pong", 1.0)
        assert beside.alive("f99_association")
        pass_time(0.6)
        beside.beat("f99_association", "pong", 1.0)
        pass_time(0.6)
        assert board.alive("f99_association")
        pass_time(0.6)
        assert not board.alive("f99_association")
        assert not beside.alive("f99_association")
        board.beat("f99_association", "pong", 1.0)
        assert beside.alive("f99_association")

    def test_keys_know_nothing_of_each_other(self, board: Scoreboard, pass_time: PassTime) -> None:
        board.beat("a", "1", 0.5)
        board.beat("A", "1", 9.0)
        board.beat(ODD, ODD, 9.0)
        pass_time(0.6)
        assert [board.alive(key) for key in ("a", "A", ODD, "")] == [False, True, True, False]

    def test_what_is_forgotten_is_dead_at_once(self, board: Scoreboard, beside: Scoreboard) -> None:
        board.beat("a", "", 60.0)
        beside.forget("a")
        beside.forget("a")
        assert not board.alive("a")

    def test_forwarders_are_taken_in_turn_once(self, board: Scoreboard, beside: Scoreboard) -> None:
        for name in ("f2", "f1", "F1"):
            board.register(name, f"forwarder/{name}", f"{name} is here")
        assert beside.pop() == ("f2", "forwarder/f2", "f2 is here")
        beside.register("f2", "forwarder/f2", "")
        assert [board.pop() for _ in range(4)] == [
            ("f1", "forwarder/f1", "f1 is here"),
            ("F1", "forwarder/F1", "F1 is here"),
            ("f2", "forwarder/f2", ""),
            None,
        ]

    def test_to_register_again_keeps_the_turn_and_tells_what_is_new(self, board: Scoreboard) -> None:
        for name, address in (("f1", "old"), ("f2", "there"), ("f1", "new"), ("f1", "new")):
            board.register(name, address, ODD)
        assert [board.pop(), board.pop(), board.pop()] == [("f1", "new", ODD), ("f2", "there", ODD), None]

    def test_the_list_does_not_expire_and_is_no_key(self, board: Scoreboard, pass_time: PassTime) -> None:
        board.register("f1", "forwarder/f1", "f1")
        board.beat("f2", "", 0.2)
        pass_time(0.3)
        assert not board.alive("f1")
        assert not board.alive("f2")
        board.forget("f1")
        board.beat("f3", "", 0.2)
        assert board.pop() == ("f1", "forwarder/f1", "f1")

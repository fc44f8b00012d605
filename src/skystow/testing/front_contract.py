"""What every `skystow.ports.sal.Front` must do. A subclass supplies the fixture `stage`: a front that is not open yet,
and the world that it speaks to."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from skystow.ports.sal import Code, Command, Front

LIMIT = 30.0


class Stage(Protocol):
    @property
    def front(self) -> Front: ...

    def command(self, name: str, **values: object) -> None:
        """Somebody commands, once the front is open."""

    def acks(self) -> Sequence[tuple[Code, str, int]]:
        """Code, text and number of each acknowledgement that the commander has, in order."""
        ...

    def heard(self, *events: str) -> Sequence[tuple[str, Mapping[str, object]]]:
        """What a listener has heard of these, in order; asked for before anything is said."""
        ...


def until(true: object, what: object = "") -> None:
    """`true` is asked again and again."""
    due = time.monotonic() + LIMIT
    while not true():  # type: ignore[operator]
        assert time.monotonic() < due, what
        time.sleep(0.01)


class FrontContract:
    def test_a_command_comes_once_with_what_it_says_and_is_answered_in_order(self, stage: Stage) -> None:
        front, came, rung = stage.front, list[Command](), threading.Event()

        def hear(command: Command) -> None:
            came.append(command)
            rung.set()

        front.open(hear)
        stage.command("setLogLevel", level=10)
        assert rung.wait(LIMIT)
        (command,) = came
        assert (command.name, command.values["level"], command.wrong) == ("setLogLevel", 10, "")
        assert command.identity
        front.ack(command, Code.ACK)
        front.ack(command, Code.IN_PROGRESS, seconds=5.0)
        front.ack(command, Code.FAILED, "no, since it is so", number=5701)
        until(lambda: len(stage.acks()) == 3, stage.acks)
        assert stage.acks() == [
            (Code.ACK, "", 0),
            (Code.IN_PROGRESS, "", 0),
            (Code.FAILED, "no, since it is so", 5701),
        ]
        assert len(came) == 1

    def test_what_is_said_is_heard_in_the_order_in_which_it_was_said(self, stage: Stage) -> None:
        stage.front.open(lambda _: None)
        assert stage.heard("summaryState", "errorCode") == []
        done = []
        for number in range(20):
            done.append(stage.front.say("errorCode", errorCode=number, errorReport=f"{number}", traceback=""))
            done.append(stage.front.say("summaryState", summaryState=number))
        for each in done:
            each.result(LIMIT)
        until(lambda: len(stage.heard("summaryState", "errorCode")) == 40)
        heard = [(name, next(iter(values.values()))) for name, values in stage.heard("summaryState", "errorCode")]
        assert heard == [pair for number in range(20) for pair in (("errorCode", number), ("summaryState", number))]

    def test_an_event_that_the_definitions_lack_is_left_out_without_an_error(self, stage: Stage) -> None:
        stage.front.open(lambda _: None)
        assert stage.front.has("summaryState")
        assert not stage.front.has("configurationApplied")
        stage.front.say("configurationApplied", version="1").result(LIMIT)
        stage.front.say("summaryState", summaryState=5).result(LIMIT)

    def test_a_long_sentence_is_cut_and_still_said(self, stage: Stage) -> None:
        came: list[Command] = []
        stage.front.open(came.append)
        stage.command("start", settingsToApply="")
        until(lambda: came)
        stage.front.ack(came[0], Code.FAILED, "望" * 1000)
        until(stage.acks)
        ((code, text, _),) = stage.acks()
        assert code is Code.FAILED
        assert text.startswith("望" * 50)

    def test_all_is_well_until_something_is_not(self, stage: Stage) -> None:
        stage.front.open(lambda _: None)
        stage.front.check()
        stage.front.flush(1.0)

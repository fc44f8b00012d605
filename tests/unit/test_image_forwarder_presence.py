"""The Forwarder is there: it announces itself, is associated, stands by, and says when it is next due."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.forwarder_kit import FIRST, NOW, WELL, Night, during, orders, transfer

from skystow.errors import Refused
from skystow.model.acts import Beat, Look, Register, Say
from skystow.model.lifecycle import Verb
from skystow.model.messages import Associated, AssociatedAck, XferParamsAck
from skystow.model.reports import Presence


def test_who_names_no_queue_is_the_archiver() -> None:
    night = Night()
    night.hear(Associated("7", "its_key", ""))
    night.hear(transfer(FIRST, reply_to=""))
    assert [(each.to, type(each.message)) for each in night.says] == [
        ("archiver", AssociatedAck),
        ("archiver", XferParamsAck),
    ]


def test_it_announces_itself_until_it_is_associated_and_again_when_the_archiver_is_gone() -> None:
    night = Night()
    acts = during(night, 30)
    assert acts.count(Beat("f99_association", "pong", 10.0)) == 10
    assert acts.count(Register()) == 3
    assert acts.count(Look("ccarchiver_association")) == 3
    night.hear(Associated("7", "another_key", "archiver"))
    assert night.says == [Say("archiver", AssociatedAck("7", "f99_association", "127.0.0.1:localhost"))]
    acts = during(night, 30)
    assert acts.count(Register()) == 0
    assert acts.count(Look("another_key")) == 3
    night.hear(Presence("ccarchiver_association", alive=False))
    assert during(night, 9).count(Register()) == 0, "that key is nobody's any more"
    night.hear(Presence("another_key", alive=False))
    assert night.acts[-1] == Register(), "at once"
    assert during(night, 20).count(Register()) == 2
    night.hear(Presence("another_key", alive=True))
    assert during(night, 20).count(Register()) == 0


def test_in_standby_it_is_not_there_but_ends_what_it_began() -> None:
    night = Night()
    night.hear(*orders(FIRST))
    night.talk.command(Verb.DISABLE, NOW)
    assert not night.talk.hears("forwarder/f99")
    night.go()
    assert night.retrieved() == WELL
    assert not any(isinstance(act, Beat | Register | Look) for act in night.acts)
    with pytest.raises(Refused):
        night.talk.command(Verb.START, NOW)
    night.talk.command(Verb.ENABLE, NOW)
    assert night.talk.hears("forwarder/f99")
    assert Register() in during(night, 1)


def test_next_due_is_when_due_has_something() -> None:
    """Never later: nothing is due before it."""
    night = Night()
    night.fail = lambda asked: [] if isinstance(asked, Say) and asked.to == "controller" else None
    night.hear(*orders(FIRST))
    night.go()
    for _ in range(200):
        due = night.talk.next_due()
        assert due is not None
        assert due > night.now
        night.now = due - timedelta(microseconds=1)
        assert night.talk.due(night.now) == []
        night.now = due
        effects = night.talk.due(due)
        assert effects
        night.follow(effects)
        while night.inbox:
            night.hear(night.inbox.popleft())

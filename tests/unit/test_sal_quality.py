"""What the environment says of SAL, what keeps a reader from a writer, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from cyclonedds.core import Policy, Qos

from skystow.adapters.sal.definitions import load
from skystow.adapters.sal.environment import LOOPBACK, Environment
from skystow.adapters.sal.peers import Endpoint, Their, compared
from skystow.adapters.sal.quality import Category, Quality, differences, partitions
from skystow.errors import ConfigError

PREFIX = {"LSST_DDS_PARTITION_PREFIX": "test"}
TABLE = Qos(
    Policy.Durability.Transient,
    Policy.Reliability.Reliable(100_000_000),
    Policy.History.KeepLast(100),
    Policy.Ownership.Shared,
    Policy.DestinationOrder.ByReceptionTimestamp,
)
"""An event's, as the observatory has it."""


# ── the environment ─────────────────────────────────────────────────────────────────────────────────────────────


def test_without_more_than_the_prefix_only_this_host_is_spoken_to() -> None:
    found = Environment.of(PREFIX)
    assert (found.prefix, found.domain, found.history, found.authorised) == ("test", 0, True, False)
    assert found.configuration == LOOPBACK
    assert 'name="lo"' in LOOPBACK
    assert found.partition("CCArchiver", commands=True) == "test.CCArchiver.cmd"
    assert found.partition("CCArchiver", commands=False) == "test.CCArchiver.data"


def test_all_variables_are_heeded_and_those_of_opensplice_named() -> None:
    said = {
        "LSST_DDS_DOMAIN_ID": "7",
        "LSST_DDS_HISTORYSYNC": "-1",
        "LSST_DDS_ENABLE_AUTHLIST": "1",
        "LSST_DDS_RESPONSIVENESS_TIMEOUT": "2.5",
        "OSPL_URI": "file:///ospl.xml",
        "LSST_DDS_QOS": "/qos.xml",
    }
    found = Environment.of(PREFIX | said)
    assert (found.domain, found.history, found.authorised, found.blocking) == (7, False, True, 2.5)
    assert [note.partition(" ")[0] for note in found.notes] == ["LSST_DDS_QOS", "OSPL_URI"]


@pytest.mark.parametrize(
    ("interface", "said"), [("eth0", 'name="eth0"'), ("192.0.2.7", 'address="192.0.2.7"'), ("fe80::1", 'address="fe80')]
)
def test_an_interface_by_name_or_address(interface: str, said: str) -> None:
    assert said in str(Environment.of(PREFIX | {"LSST_DDS_INTERFACE": interface}).configuration)


def test_cyclones_own_configuration_goes_before_ours() -> None:
    both = PREFIX | {"CYCLONEDDS_URI": "file:///cyclone.xml", "LSST_DDS_INTERFACE": "eth0"}
    assert Environment.of(both).configuration is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LSST_DDS_PARTITION_PREFIX", ""),
        ("LSST_DDS_PARTITION_PREFIX", "a*"),
        ("LSST_DDS_PARTITION_PREFIX", "a,b"),
        ("LSST_DDS_DOMAIN_ID", "231"),
        ("LSST_DDS_DOMAIN_ID", "one"),
        ("LSST_DDS_DOMAIN_ID", "²"),
        ("LSST_DDS_ENABLE_AUTHLIST", "yes"),
        ("LSST_DDS_HISTORYSYNC", "nan"),
        ("LSST_DDS_RESPONSIVENESS_TIMEOUT", "0"),
        ("LSST_DDS_INTERFACE", 'lo"/><x y="'),
    ],
)
def test_what_is_ill_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Environment.of(PREFIX | {name: value})


# ── quality of service ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("category", list(Category))
@pytest.mark.parametrize("shared", [False, True])
def test_our_two_ends_match(category: Category, shared: bool) -> None:
    quality = Quality(shared=shared)
    for history in (False, True) if category is Category.EVENT else (False,):
        assert list(differences(quality.offered(category), quality.asked(category, history=history))) == []


def test_no_old_command_and_no_old_acknowledgement_is_kept() -> None:
    for category in (Category.COMMAND, Category.ACK):
        assert Policy.Durability.Volatile in list(Quality(transient=True).offered(category))
        assert Policy.Durability.Volatile in list(Quality(transient=True).asked(category, history=False))


def test_readers_of_the_observatory_need_transient() -> None:
    offered = Quality().offered(Category.EVENT)
    assert list(differences(offered, TABLE)) == ["durability: TRANSIENT_LOCAL is offered, TRANSIENT is asked"]
    assert list(differences(Quality(transient=True).offered(Category.EVENT), TABLE)) == []


@pytest.mark.parametrize(
    ("offered", "asked", "said"),
    [
        ([Policy.Ownership.Exclusive], [Policy.Ownership.Shared], "ownership: EXCLUSIVE is offered, SHARED is asked"),
        ([], [Policy.Reliability.Reliable(1)], "reliability: BEST_EFFORT is offered, RELIABLE is asked"),
        (
            [Policy.DestinationOrder.ByReceptionTimestamp],
            [Policy.DestinationOrder.BySourceTimestamp],
            "destination order: BY_RECEPTION_TIMESTAMP is offered, BY_SOURCE_TIMESTAMP is asked",
        ),
        ([Policy.Deadline(2 * 10**9)], [Policy.Deadline(10**9)], "Deadline: 2 s is offered, 1 s is asked"),
        (
            [Policy.PresentationAccessScope.Instance(False, False)],
            [Policy.PresentationAccessScope.Topic(False, True)],
            "presentation: INSTANCE is offered, TOPIC is asked",
        ),
        (
            [Policy.DataRepresentation(True, False)],
            [Policy.DataRepresentation(False, True)],
            "data representation: XCDR1 is offered, XCDR2 is asked",
        ),
        (
            [Policy.Liveliness.Automatic(1)],
            [Policy.Liveliness.ManualByTopic(1)],
            "liveliness: Automatic is offered, ManualByTopic is asked",
        ),
    ],
)
def test_what_keeps_two_apart_is_named(offered: Sequence[Any], asked: Sequence[Any], said: str) -> None:
    assert said in list(differences(Qos(*offered), Qos(*asked)))


def test_the_younger_of_two_writers_of_acknowledgements_owns() -> None:
    strength: Any = Quality().offered(Category.ACK)[Policy.OwnershipStrength]
    assert strength.strength > 1_700_000_000


# ── what is said of others ──────────────────────────────────────────────────────────────────────────────────────


def their(topic_name: str, type_name: str, qos: Qos = TABLE) -> Their:
    return Their(uuid4(), uuid4(), topic_name, type_name, qos, writes=False, handle=1)


def test_a_peer_is_compared_by_name_revision_type_and_quality() -> None:
    topic = load("CCArchiver", None).topic("logevent_summaryState")
    ours = Endpoint(topic, Quality(transient=True).offered(Category.EVENT), "p", writes=True, entity=None)
    assert list(compared(ours, their(topic.dds_name, topic.type_name))) == []
    (revised,) = compared(ours, their("CCArchiver_logevent_summaryState_0123abcd", "CCArchiver::x"))
    assert f"it speaks revision 0123abcd, ours is {topic.revision}" in revised
    assert list(compared(ours, their("CCArchiver_logevent_errorCode_0123abcd", "CCArchiver::x"))) == []
    assert list(compared(ours, their("CCArchiver_logevent_summaryState_0123ABCD", "x"))) == [], "no revision at all"
    (other,) = compared(ours, their(topic.dds_name, "Other::x"))
    assert other == f"its type is called Other::x, ours {topic.type_name}"
    local = Endpoint(topic, Quality().offered(Category.EVENT), "p", writes=True, entity=None)
    assert "TRANSIENT is asked" in next(compared(local, their(topic.dds_name, topic.type_name)))


def test_whoever_says_no_partition_is_in_the_one_without_a_name() -> None:
    assert partitions(Qos()) == ("",)
    assert partitions(Qos(Policy.Partition(["a", "b"]))) == ("a", "b")

"""Who commands, and who hears, on real DDS in this one process: what comes when something is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import uuid4

import pytest

from skystow.adapters.sal import ears
from skystow.adapters.sal.definitions import load
from skystow.adapters.sal.ears import Ears
from skystow.adapters.sal.environment import Environment
from skystow.adapters.sal.front import SalFront
from skystow.adapters.sal.instrument import Instrument
from skystow.adapters.sal.node import Node
from skystow.adapters.sal.quality import Quality
from skystow.adapters.sal.remote import SalRemote
from skystow.errors import ConfigError, Refused, Unreachable
from skystow.model.acts import Say
from skystow.model.messages import EndReadout, LargeFileObjectAvailable, StartIntegration
from skystow.ports.sal import Acknowledgement, Code, Command
from skystow.testing.front_contract import until

NAME, OBSID = "CCArchiver", "CC_O_20210304_000001"
LIMIT = 30.0


class World:
    """Nodes that hear each other and nobody else."""

    def __init__(self, stack: ExitStack) -> None:
        self.environment, self.stack, self.logged = Environment(f"t{uuid4().hex[:12]}"), stack, list[str]()

    def node(self, identity: str, quality: Quality | None = None) -> Node:
        made = Node(self.environment, quality or Quality(), identity=identity, log=self.logged.append)
        self.stack.callback(made.close)
        return made

    def remote(self, identity: str = "operator@console", quality: Quality | None = None) -> SalRemote:
        return SalRemote(self.node(identity, quality), load(NAME, None))

    def front(self, hear: Callable[[Command], None], quality: Quality | None = None) -> SalFront:
        made = SalFront(self.node(NAME, quality), load(NAME, None))
        self.stack.callback(made.close)
        made.open(hear)
        return made


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack)


# ── who commands ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_commander_is_told_of_every_kind_of_end(world: World) -> None:
    """The name of a command says what is answered; a component that is mute says nothing."""
    fronts: list[SalFront] = []

    def answer(command: Command) -> None:
        front = fronts[0]
        match command.name:
            case "start":  # nothing
                pass
            case "enable":  # not the end
                front.ack(command, Code.ACK)
            case "disable":  # the end, later than it was waited for, but as was announced
                front.ack(command, Code.IN_PROGRESS, seconds=LIMIT)
                threading.Timer(1.0, front.ack, (command, Code.COMPLETE, "late")).start()
            case "standby":  # more than the end
                front.ack(command, Code.FAILED, "no", number=7)
                front.ack(command, Code.COMPLETE)
            case "exitControl":
                front.ack(command, 42)  # type: ignore[arg-type]
            case _:
                pass

    fronts.append(world.front(answer))
    far = world.remote()

    def told(name: str, seconds: float = 0.5) -> list[Acknowledgement]:
        return list(far.command(name, {}, seconds=seconds))

    assert [each.code for each in told("start")] == [Code.NO_ACK]
    assert [each.code for each in told("enable")] == [Code.ACK, Code.TIMEOUT]
    assert [(each.code, each.text) for each in told("disable")] == [(Code.IN_PROGRESS, ""), (Code.COMPLETE, "late")]
    assert [(each.code, each.text, each.number) for each in told("standby", LIMIT)] == [(Code.FAILED, "no", 7)]
    with pytest.raises(Refused, match="a code that SAL has not: 42"):
        told("exitControl", LIMIT)
    with pytest.raises(ConfigError, match="has no command ‘dance’"):
        told("dance")


def test_commanders_do_not_take_each_others_answers_for_theirs(world: World) -> None:
    """Though they have one process number."""
    fronts: list[SalFront] = []
    fronts.append(world.front(lambda command: fronts[0].ack(command, Code.COMPLETE, command.identity)))
    fars = [world.remote(f"operator{number}@console") for number in range(3)]

    def obey(far: SalRemote) -> list[str]:
        return [each.text for _ in range(10) for each in far.command("setLogLevel", {"level": 10}, seconds=LIMIT)]

    with ThreadPoolExecutor(3) as threads:
        texts = list(threads.map(obey, fars))
    assert texts == [10 * [f"operator{number}@console"] for number in range(3)]


def test_where_nobody_is_the_commander_is_told_what_to_look_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skystow.adapters.sal.remote.THERE", 0.2)
    with pytest.raises(Unreachable, match=f"no {NAME} is there to obey") as fault:
        list(world.remote().command("start", {}, seconds=LIMIT))
    assert "LSST_DDS_PARTITION_PREFIX" in fault.value.remedy


def test_acknowledgements_may_be_shared_at_both_ends_or_at_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fronts: list[SalFront] = []
    fronts.append(world.front(lambda command: fronts[0].ack(command, Code.COMPLETE), Quality(shared=True)))
    far = world.remote("old@console", Quality(shared=True))
    assert [each.code for each in far.command("start", {}, seconds=LIMIT)] == [Code.COMPLETE]
    monkeypatch.setattr("skystow.adapters.sal.remote.THERE", 0.2)
    with pytest.raises(Unreachable, match=f"no {NAME} is there to obey"):
        list(world.remote().command("start", {}, seconds=LIMIT))
    until(lambda: [each for each in world.logged if "ackcmd: ownership: SHARED is offered, EXCLUSIVE" in each])


def test_who_leaves_is_gone_at_once_and_twice_is_once(world: World) -> None:
    front = world.front(lambda _: None)
    node = world.node("watcher@console")
    topic = load(NAME, None).topic("logevent_heartbeat")
    node.reader(topic, lambda _: None)
    until(lambda: node.writers_of(topic))
    front.close()
    assert isinstance(front.say("heartbeat", heartbeat=True).exception(LIMIT), Unreachable)
    until(lambda: not node.writers_of(topic))
    front.close()


def test_an_error_that_nobody_foresaw_in_a_thread_of_ours_is_its_owners(world: World) -> None:
    def stumble(command: Command) -> None:
        raise RuntimeError(f"{command.name}: not foreseen")

    nodes = [world.node(NAME)]
    front, far = SalFront(nodes[0], load(NAME, None)), world.remote()
    world.stack.callback(front.close)
    front.open(stumble)
    assert [each.code for each in far.command("start", {}, seconds=0.5)] == [Code.NO_ACK]

    until(lambda: nodes[0].died is not None)
    with pytest.raises(Unreachable, match="DDS has died: start: not foreseen"):
        front.check()


# ── who hears the camera ────────────────────────────────────────────────────────────────────────────────────────────


class Bus:
    """Takes what is said, once it is there."""

    def __init__(self) -> None:
        self.away, self.took, self.tried = threading.Event(), list[Say](), 0

    def publish(self, says: Sequence[Say]) -> None:
        self.tried += 1
        if self.away.is_set():
            raise Unreachable("the ledger is locked", place="ledger")
        self.took.extend(says)


class Sky:
    def __init__(self, world: World) -> None:
        self.bus, self.node = Bus(), world.node(NAME)
        camera, headers = load("CCCamera", None), load("CCHeaderService", None)
        self.ears = Ears(self.node, camera, headers, self.bus.publish, "archiver/events")
        world.stack.callback(self.ears.close)
        self.ears.open()
        self.ears.begin()
        nodes = (world.node("CCCamera"), camera), (world.node("CCHeaderService"), headers)
        self.instrument = Instrument(*nodes, load(NAME, None))
        until(lambda: self.instrument.heard)

    def say(self, *images: str) -> list[Say]:
        says = [
            Say("archiver/events", message)
            for obsid in images
            for message in (
                StartIntegration(obsid, image_source="CC", image_controller="O", image_date=obsid[5:13]),
                EndReadout(obsid),
                LargeFileObjectAvailable(obsid, f"http://127.0.0.1/{obsid}.yaml"),
            )
        ]
        self.instrument.publish(says)
        return says


def kinds(says: Sequence[Say]) -> list[tuple[str, str]]:
    return [(type(each.message).__name__, each.message.key) for each in says]


@pytest.fixture
def sky(world: World, monkeypatch: pytest.MonkeyPatch) -> Sky:
    monkeypatch.setattr(ears, "REST", 0.05)
    return Sky(world)


def test_what_is_heard_while_the_bus_is_away_is_kept_in_its_order(world: World, sky: Sky) -> None:
    first = sky.say("CC_O_20210304_000001")
    until(lambda: len(sky.bus.took) == 3)
    sky.bus.away.set()
    then = sky.say(*(f"CC_O_20210304_{number:06d}" for number in range(2, 300)))
    until(lambda: sky.bus.tried > 5)
    sky.bus.away.clear()
    until(lambda: len(sky.bus.took) == len(first) + len(then), lambda: len(sky.bus.took))
    assert kinds(sky.bus.took) == kinds([*first, *then])
    assert world.logged == []


def test_when_it_ends_what_has_come_is_written_down(sky: Sky) -> None:
    """Though our thread was busy when it came."""
    busy, free = threading.Event(), threading.Event()

    def dawdle(_: object) -> None:
        busy.set()
        assert free.wait(LIMIT)

    heartbeat = load(NAME, None).topic("logevent_heartbeat")
    sky.node.reader(heartbeat, dawdle)
    writer = sky.node.writer(heartbeat)
    until(writer.matched)
    writer.write({"heartbeat": True})
    assert busy.wait(LIMIT)
    said = sky.say(*(f"CC_O_20210304_{number:06d}" for number in range(1, 400)))
    until(lambda: sum(len(each.entity.read(N=1000)) for each in sky.node._readers) == len(said))
    with ThreadPoolExecutor(1) as thread:
        closing = thread.submit(sky.node.close)
        until(sky.node._ended.is_set)
        free.set()
        closing.result(LIMIT)
    sky.ears.close()
    assert kinds(sky.bus.took) == kinds(said)


def test_when_it_ends_while_the_bus_is_away_for_a_moment_it_waits(sky: Sky) -> None:
    sky.bus.away.set()
    said = sky.say(OBSID)
    until(lambda: sky.bus.tried > 1)
    threading.Timer(0.3, sky.bus.away.clear).start()
    until(lambda: sky.ears.waiting == len(said))
    sky.node.close()
    sky.ears.close()
    assert kinds(sky.bus.took) == kinds(said)


def test_what_is_lost_at_the_end_is_said_to_be(world: World, sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ears, "LAST", 0.2)
    sky.bus.away.set()
    said = sky.say(OBSID)
    until(lambda: sky.ears.waiting == len(said))
    sky.ears.close()
    assert world.logged == ["3 events are lost, since we end: the ledger is locked"]


def test_many_that_wait_are_spoken_of_once(world: World, sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ears, "MANY", 10)
    sky.bus.away.set()
    sky.say(*(f"CC_O_20210304_{number:06d}" for number in range(1, 9)))
    until(lambda: sky.ears.waiting == 24)
    sky.bus.away.clear()
    until(lambda: len(sky.bus.took) == 24)
    assert world.logged == ["10 events wait in memory: the ledger does not take them"]


def test_an_error_that_nobody_foresaw_while_it_is_written_down_is_the_nodes(sky: Sky) -> None:
    def stumble(_: Sequence[Say]) -> None:
        raise RuntimeError("not foreseen")

    sky.ears._publish = stumble
    sky.say(OBSID)
    until(lambda: sky.node.died is not None)
    assert str(sky.node.died) == "not foreseen"

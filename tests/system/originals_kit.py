"""Stand-ins for a forwarder 2.3 and an OODS 5.0, written from what is known of their wire, with plain aio-pika and
redis-py: nothing of ours says or reads a message here.

    forwarder   default exchange, one line of JSON, all values quoted; acknowledges automatically; says a thing once
    OODS        exchange `message`, blocks of YAML with sorted keys; acknowledges before it works
"""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import aio_pika
import yaml
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue, AbstractRobustConnection
from aio_pika.exceptions import ChannelNotFoundEntity
from astropy.io import fits  # type: ignore[import-untyped]

from skystow.adapters.assembly import contents_of
from skystow.adapters.fits import build
from skystow.adapters.header_yaml import parse
from skystow.service.halt import Halt
from skystow.simulate.comcam import LOCATIONS, ComCam
from tests.brokers import USER, Vhost
from tests.redis_server import RedisServer
from tests.servers import PASSWORD

Body = dict[str, Any]


class Original(ABC):
    """Lives in a thread of its own while its block lasts, and what it died of is raised then. `heard`: all bodies."""

    def __init__(self, vhost: Vhost) -> None:
        self.vhost = vhost
        self.heard: list[Body] = []
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run)
        self._died: BaseException | None = None

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._died is not None:
            raise self._died

    def of(self, kind: str) -> list[Body]:
        return [body for body in self.heard if body["MSG_TYPE"] == kind]

    def _run(self) -> None:
        try:
            with closing(self._loop):
                self._loop.run_until_complete(self._live())
        except BaseException as error:  # noqa: BLE001 - raised again where the test is
            self._died = error

    async def _live(self) -> None:
        broker = self.vhost.broker
        async with await aio_pika.connect(
            host="127.0.0.1", port=broker.port, login=USER, password=PASSWORD, virtualhost=self.vhost.name
        ) as connection:
            work = asyncio.create_task(self.live(connection))
            over = asyncio.create_task(self._over.wait())
            await asyncio.wait([work, over], return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            if not work.done():
                work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    @abstractmethod
    async def live(self, connection: Any) -> None:
        """Until it is cancelled."""


class OriginalForwarder(Original):
    QUEUE, KEY, COMPONENT = "f99_consume", "f99_association", "127.0.0.1:comcam-fp01"
    LISTED: Mapping[str, str] = {"hostname": "comcam-fp01", "ip_address": "127.0.0.1", "consume_queue": QUEUE}

    def __init__(self, vhost: Vhost, board: RedisServer, shape: tuple[int, int]) -> None:
        super().__init__(vhost)
        self.board, self.shape = board, shape
        self.scratch: dict[str, Body] = {}

    async def live(self, connection: AbstractRobustConnection) -> None:
        queue = await self._queue(connection)
        self._channel = queue.channel
        self.board.ask("LPUSH", "forwarder_list", json.dumps(self.LISTED))
        await queue.consume(self._consume, no_ack=True, exclusive=True)
        while True:
            self.board.ask("SETEX", self.KEY, 10, "pong")
            await asyncio.sleep(3)  # as they beat

    async def _queue(self, connection: AbstractRobustConnection) -> AbstractQueue:
        """It declares nothing: the queue must exist already."""
        while True:
            channel = await connection.channel(publisher_confirms=False)
            try:
                return await channel.get_queue(self.QUEUE, ensure=True)
            except ChannelNotFoundEntity:
                await asyncio.sleep(0.2)

    async def _say(self, queue: str, **body: object) -> None:
        message = aio_pika.Message(json.dumps(body).encode())
        await self._channel.default_exchange.publish(message, routing_key=queue, mandatory=False)

    async def _consume(self, message: AbstractIncomingMessage) -> None:
        said: Body = yaml.safe_load(message.body)
        self.heard.append(said)
        match said["MSG_TYPE"]:
            case "ASSOCIATED":
                ack = {"MSG_TYPE": "ASSOCIATED_ACK", "ASSOCIATION_KEY": self.KEY, "ACK_ID": said["ACK_ID"]}
                await self._say(said["REPLY_QUEUE"], **ack)
            case "CC_FWDR_XFER_PARAMS" | "CC_FWDR_END_READOUT" | "CC_FWDR_HEADER_READY" as kind:
                ack = {"MSG_TYPE": f"{kind}_ACK", "IMAGE_ID": said["IMAGE_ID"], "COMPONENT": self.COMPONENT}
                await self._say(said["REPLY_QUEUE"], **ack, ACK_ID=said["ACK_ID"])  # before it has done anything
                await self._work(kind, said)

    async def _work(self, kind: str, said: Body) -> None:
        obsid = said["IMAGE_ID"]
        scratch = self.scratch.setdefault(obsid, {})
        scratch[kind] = said
        if kind == "CC_FWDR_HEADER_READY":
            scratch["header"] = await asyncio.to_thread(_fetched, said["FILENAME"])
        if "header" in scratch and "CC_FWDR_END_READOUT" in scratch:
            await self._send(obsid, self.scratch.pop(obsid))

    async def _send(self, obsid: str, scratch: Body) -> None:
        asked = scratch["CC_FWDR_XFER_PARAMS"]
        directory = asked["TARGET_LOCATION"].rpartition(":")[2]
        camera, header = ComCam(shape=self.shape), parse(scratch["header"])
        for location in asked["XFER_PARAMS"]["RAFT_CCD_LIST"]:
            for detector in LOCATIONS[location]:
                raft, sensor = detector[1:3], detector[5:7]
                content = build(camera.read(obsid, detector, stop=Halt()), contents_of(header, obsid, detector))
                name = f"{directory}/{obsid}-R{raft}S{sensor}.fits"  # two slashes, as there always were
                await asyncio.to_thread(Path(name).write_bytes, bytes(content))
                which = {"FILENAME": name, "OBSID": obsid, "RAFT": raft, "SENSOR": sensor}
                job = {"SESSION_ID": asked["SESSION_ID"], "JOB_NUM": str(asked["JOB_NUM"]), "REPLY_QUEUE": self.QUEUE}
                await self._say("archive_ctrl_consume", MSG_TYPE="FILE_TRANSFER_COMPLETED", **which, **job)
                told = {"MSG_TYPE": "IMAGE_RETRIEVAL_FOR_ARCHIVING", **which, "STATUS_CODE": 0, "DESCRIPTION": "sent"}
                await self._say("telemetry_queue", **told)


class OriginalOods(Original):
    """In the form of 4.3 and later: what the metadata says, the file's own name."""

    async def live(self, connection: AbstractRobustConnection) -> None:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=1)
        self._exchange = await channel.declare_exchange("message", aio_pika.ExchangeType.DIRECT, durable=True)
        self._channel: AbstractChannel = channel
        queue = await channel.declare_queue("cc_publish_to_oods", durable=True)
        await queue.bind(self._exchange, "cc_publish_to_oods")
        await queue.consume(self._consume)
        await asyncio.Event().wait()

    async def _consume(self, message: AbstractIncomingMessage) -> None:
        await message.ack()
        said: Body = yaml.safe_load(message.body)
        self.heard.append(said)
        with fits.open(said["FILENAME"]) as units:
            header = units[0].header
        answer = {
            "MSG_TYPE": "IMAGE_IN_OODS",
            "CAMERA": "LSSTComCam",
            "ARCHIVER": said["ARCHIVER"],
            "OBSID": header["OBSID"],
            "RAFT": header["RAFTBAY"],
            "SENSOR": header["CCDSLOT"],
            "FILENAME": Path(said["FILENAME"]).name,
            "STATUS_CODE": 0,
            "DESCRIPTION": "file ingested",
        }
        body = yaml.safe_dump(answer, default_flow_style=False).encode()
        await self._exchange.publish(aio_pika.Message(body), routing_key="oods_publish_to_cc", mandatory=False)


def _fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - of our own header service
        content: bytes = answer.read()
        return content

"""The Archive Controller, and the idle image archiver, on real servers: RabbitMQ, Redis, MariaDB, each of our own.

    python bench/wire.py controller [--files 2000] [--singles 300] [--size 4096] [--root DIR] [--ledger mariadb|sqlite]
    python bench/wire.py idle [--seconds 60] [--root DIR]

`controller`: files lie in staging; their FILE_TRANSFER_COMPLETED are published as a forwarder does. The clock of a file
begins at the publishing and ends when its CC_FILE_INGEST_REQUEST is here: by then it was digested, synced, linked into
Data Backbone and OODS, and every step was committed. `burst` is all of them at once, `single` one at a time. Beside
them stands what a file cost: processor of the Controller, and what MariaDB was asked.
`idle`: Archiver (ENABLED, with its heartbeats), Controller, Forwarder and OODS, a process each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aio_pika
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.brokers import USER, Broker
from tests.redis_server import RedisServer
from tests.servers import PASSWORD, MariaDb

DAY = "2021-03-04"
COMPONENTS = ("archiver", "controller", "oods", "f99")
DURABLE = ("--innodb-flush-log-at-trx-commit=1",)
"""The tests' server does not sync; a ledger's does."""


def write_site(root: Path, broker: Broker, vhost: str, redis: RedisServer, ledger: str) -> Path:
    for name in ("staging", "backbone", "oods", "work"):
        (root / name).mkdir(parents=True)
    document: dict[str, Any] = {
        "ledger": ledger,
        "control": str(root / "control"),
        "image": {
            "detectors": ["R22_S00", "R22_S01", "R22_S02"],
            "staging": {"root": str(root / "staging")},
            "backbone": {"root": str(root / "backbone")},
            "oods": {"root": str(root / "oods"), "bad_files": str(root / "bad")},
            "forwarders": [{"name": "f99", "work": str(root / "work"), "camera": {"kind": "simulated"}}],
            "bus": {
                "kind": "rabbitmq",
                "port": broker.port,
                "vhost": vhost,
                "user": USER,
                "password_file": str(broker.password_file),
            },
            "scoreboard": {"kind": "redis", "port": redis.port},
        },
    }
    site = root / "site.yaml"
    site.write_text(json.dumps(document))
    return site


def begun(site: Path, component: str) -> subprocess.Popen[bytes]:
    log = (site.parent / f"{component}.log").open("wb")
    command = [sys.executable, "-m", "skystow", "run", str(site), "--component", component]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    due = time.monotonic() + 30
    while asked(site, component, "state").returncode != 0:
        if process.poll() is not None or time.monotonic() > due:
            raise SystemExit((site.parent / f"{component}.log").read_text())
        time.sleep(0.2)
    return process


def asked(site: Path, component: str, verb: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "skystow", "control", str(site), component, verb]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


# ── the Controller ──────────────────────────────────────────────────────────────────────────────────────────────


class Other:
    """The forwarder and the OODS of the measurement, in one."""

    def __init__(self, exchange: aio_pika.abc.AbstractExchange, staging: Path) -> None:
        self.exchange, self.staging = exchange, staging
        self.said: dict[str, float] = {}
        self.took: dict[str, float] = {}
        self.came = asyncio.Event()

    def name(self, number: int) -> str:
        return f"CC_O_20210304_{number:06d}"

    async def announce(self, number: int) -> None:
        obsid = self.name(number)
        self.said[obsid] = time.perf_counter()
        body = {
            "MSG_TYPE": "FILE_TRANSFER_COMPLETED",
            "FILENAME": f"{self.staging}/{DAY}/{obsid}-R22S00.fits",
            "OBSID": obsid,
            "RAFT": "22",
            "SENSOR": "00",
            "SESSION_ID": "2021-03-04_12:34:56.789012",
            "JOB_NUM": "3",
            "REPLY_QUEUE": "f99_consume",
        }
        mode = aio_pika.DeliveryMode.PERSISTENT
        await self.exchange.publish(
            aio_pika.Message(json.dumps(body).encode(), delivery_mode=mode), "archive_ctrl_consume"
        )

    async def hear(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        obsid = yaml.load(message.body, yaml.CSafeLoader)["OBSID"]
        self.took.setdefault(obsid, time.perf_counter() - self.said[obsid])
        await message.ack()
        self.came.set()

    async def until(self, obsids: Sequence[str]) -> None:
        async with asyncio.timeout(300):
            while not all(obsid in self.took for obsid in obsids):
                self.came.clear()
                await self.came.wait()


@asynccontextmanager
async def other(broker: Broker, vhost: str, staging: Path) -> AsyncIterator[Other]:
    connection = await aio_pika.connect(
        host="127.0.0.1", port=broker.port, login=USER, password=PASSWORD, virtualhost=vhost
    )
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=500)
        made = Other(channel.default_exchange, staging)
        queue = await channel.get_queue("cc_publish_to_oods")
        await queue.consume(made.hear)
        yield made


def processor(process: subprocess.Popen[bytes]) -> float:
    """Seconds of processor that it has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Cost:
    """What a number of files cost, since it was made."""

    def __init__(self, controller: subprocess.Popen[bytes], database: MariaDb | None) -> None:
        self.controller, self.database = controller, database
        self.cpu, self.asked = processor(controller), self._asked()

    def _asked(self) -> dict[str, int]:
        """Statements and commits of the server so far."""
        if self.database is None:
            return {}
        rows = self.database.execute("SHOW GLOBAL STATUS WHERE Variable_name IN ('Questions', 'Com_commit')")
        return {name: int(value) for name, value in rows}

    def of(self, files: int) -> str:
        cpu, asked = processor(self.controller) - self.cpu, self._asked()
        said = [f"{1e3 * cpu / files:.2f} ms of processor"]
        if asked:
            said.append(f"{(asked['Questions'] - self.asked['Questions']) / files:.2f} statements")
            said.append(f"{(asked['Com_commit'] - self.asked['Com_commit']) / files:.2f} commits")
        return f"a file costs {', '.join(said)}"


async def measure(
    options: argparse.Namespace,
    broker: Broker,
    vhost: str,
    staging: Path,
    controller: subprocess.Popen[bytes],
    database: MariaDb | None,
) -> None:
    async with other(broker, vhost, staging) as them:
        singles = range(1, options.singles + 1)
        cost = Cost(controller, database)
        for number in singles:
            await them.announce(number)
            await them.until([them.name(number)])
        took = sorted(them.took[them.name(n)] * 1e3 for n in singles[10:])
        print(f"single: p50 {statistics.median(took):.1f} ms, p99 {took[int(len(took) * 0.99)]:.1f} ms of {len(took)}")
        print(f"  {cost.of(options.singles)}")
        burst = range(options.singles + 1, options.singles + options.files + 1)
        begin, cost = time.perf_counter(), Cost(controller, database)
        await asyncio.gather(*(them.announce(number) for number in burst))
        await them.until([them.name(number) for number in burst])
        seconds = time.perf_counter() - begin
        print(f"burst: {options.files / seconds:.0f} files/s ({options.files} in {seconds:.2f} s)")
        print(f"  {cost.of(options.files)}")


def controller(
    options: argparse.Namespace, root: Path, broker: Broker, redis: RedisServer, database: MariaDb | None
) -> None:
    vhost = broker.vhost().name
    site = write_site(root, broker, vhost, redis, _ledger(root, database))
    day = root / "staging" / DAY
    day.mkdir()
    for number in range(1, options.singles + options.files + 1):
        (day / f"CC_O_20210304_{number:06d}-R22S00.fits").write_bytes(os.urandom(options.size))
    os.sync()
    process = begun(site, "controller")
    try:
        asyncio.run(measure(options, broker, vhost, root / "staging", process, database))
        linked = sum(1 for _ in (root / "oods" / DAY).iterdir()), sum(1 for _ in (root / "backbone" / DAY).iterdir())
        print(f"linked: {linked[0]} in OODS, {linked[1]} in the Data Backbone")
    finally:
        process.terminate()
        process.wait(30)


# ── idle ────────────────────────────────────────────────────────────────────────────────────────────────────────


def idle(options: argparse.Namespace, root: Path, broker: Broker, redis: RedisServer, database: MariaDb | None) -> None:
    site = write_site(root, broker, broker.vhost().name, redis, _ledger(root, database))
    processes = {name: begun(site, name) for name in COMPONENTS}
    try:
        for verb in ("start", "enable"):
            if (done := asked(site, "archiver", verb)).returncode:
                raise SystemExit(done.stderr.decode())
        time.sleep(10)
        before = {name: processor(process) for name, process in processes.items()}
        time.sleep(options.seconds)
        for name, process in processes.items():
            used = processor(process) - before[name]
            print(f"idle {name}: {100 * used / options.seconds:.2f} % of a processor")
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(30)


def _ledger(root: Path, database: MariaDb | None) -> str:
    return database.ledger_url() if database is not None else f"sqlite:///{root}/ledger.db"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["controller", "idle"])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--singles", type=int, default=300)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--ledger", choices=["mariadb", "sqlite"], default="mariadb")
    options = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.root)))
        broker, redis = stack.enter_context(closing(Broker())), stack.enter_context(closing(RedisServer()))
        database = None
        if options.ledger == "mariadb":
            database = MariaDb()
            stack.callback(database.close)
            database.kill()
            database.extra = DURABLE
            database.start()
        {"controller": controller, "idle": idle}[options.what](options, root, broker, redis, database)


if __name__ == "__main__":
    main()

"""A real RabbitMQ, started by the tests: see `tests.servers`. One per test process, with a virtual host of its own for
whoever asks; with an epmd of its own, so that the machine's is neither used nor left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from tests.cutproxy import CutProxy
from tests.servers import LIMIT, PASSWORD, certificates, free_port

USER = "skystow"
HEADER = b"AMQP\0\0\x09\x01"
SETTINGS = """\
loopback_users = none
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
listeners.tcp.default = 127.0.0.1:{port}
listeners.ssl.default = 127.0.0.1:{tls_port}
ssl_options.cacertfile = {home}/ca.pem
ssl_options.certfile = {home}/cert.pem
ssl_options.keyfile = {home}/key.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
"""


class Broker:
    """`port` and `tls_port` stay the same over a `kill` and a `start`, and so does what is kept on disk. `ca`: the
    authority of its certificate, which is for 127.0.0.1; `cert.pem` and `key.pem` beside it will do for a client."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="skystow-mq-"))
        self.port, self.tls_port, self._distribution, self._epmd_port = (free_port() for _ in range(4))
        self.process: subprocess.Popen[bytes] | None = None
        self._vhosts = 0
        certificates(self.home)
        self._write(".erlang.cookie", secrets.token_hex(16), 0o400)
        self._write("env.conf", "")  # else the machine's is read
        self._write("enabled_plugins", "[].")
        self._write("rabbitmq.conf", SETTINGS.format(home=self.home, port=self.port, tls_port=self.tls_port))
        self._write("password", PASSWORD, 0o600)
        self._epmd = self._child("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1")
        self.start()
        self.tell(f'rabbit_auth_backend_internal:add_user(<<"{USER}">>, <<"{PASSWORD}">>, <<"tests">>)')

    @property
    def ca(self) -> Path:
        return self.home / "ca.pem"

    @property
    def password_file(self) -> Path:
        """Whose first line is the password of `USER`."""
        return self.home / "password"

    def start(self) -> None:
        """Started, and answering."""
        due = time.monotonic() + LIMIT
        program = max(Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"))
        self.process = self._child(str(program))
        while not self.answers():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < due, self.log()
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.settimeout(5)
                probe.sendall(HEADER)
                return probe.recv(3) == b"\1\0\0"
        except OSError:
            return False

    def kill(self) -> None:
        """As by the kernel's out-of-memory killer."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(LIMIT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections, and says nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def out_of_memory(self) -> Iterator[None]:
        """It takes no messages from whoever publishes (`connection.blocked`)."""
        what = "{resource_limit, memory, node()}"
        self.tell(f"rabbit_alarm:set_alarm({{{what}, []}})")
        try:
            yield
        finally:
            self.tell(f"rabbit_alarm:clear_alarm({what})")

    def close(self) -> None:
        self.kill()
        self._epmd.kill()
        self._epmd.wait(LIMIT)
        shutil.rmtree(self.home, ignore_errors=True)

    def log(self) -> str:
        return (self.home / "out").read_text(errors="replace")[-4000:]

    def tell(self, erlang: str) -> str:
        """Evaluated in the broker; what it printed. Two hundred times as quick as rabbitmqctl."""
        call = ["erl_call", "-address", f"localhost:{self._distribution}", "-timeout", "30"]
        due = time.monotonic() + LIMIT
        while True:
            done = subprocess.run(
                [*call, "-fetch_stdout", "-no_result_term", "-e"],
                env=self.environment,
                input=f"{erlang}.\n",
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout
            # A busy node lets some wait too long at its door: then nothing was done.
            assert "failed to connect" in done.stderr, f"{erlang}: {done.stdout} {done.stderr}"
            assert time.monotonic() < due, f"{erlang}: {done.stderr}"
            time.sleep(0.2)

    def vhost(self, name: str = "") -> Vhost:
        """A new, empty one."""
        self._vhosts += 1
        name = name or f"/test_{self._vhosts}"  # with a slash, as the originals name them
        permit = ", ".join(["rabbit_auth_backend_internal:set_permissions(U, V", *['<<".*">>'] * 3, '<<"tests">>)'])
        users = ", ".join(f'<<"{user}">>' for user in (USER, "guest"))
        self.tell(f'V = <<"{name}">>, rabbit_vhost:add(V, <<"tests">>), [{permit} || U <- [{users}]]')
        return Vhost(self, name)

    @property
    def environment(self) -> dict[str, str]:
        """Of the broker; `rabbitmqctl` needs the same."""
        home = str(self.home)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": home,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "test@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_SERVER_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",  # small, and quick to start
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # else a shell stands between us and the broker
        }

    def _child(self, *command: str) -> subprocess.Popen[bytes]:
        """It dies with us, even where we are killed."""
        with (self.home / "out").open("ab") as out:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self.environment,
                cwd=self.home,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.home / name
        path.write_text(text)
        path.chmod(mode)


FACTS = ("durable", "auto_delete", "exclusive", "type", "messages_ready", "messages_unacknowledged", "consumers")
QUEUES = """
Facts = [{facts}],
io:put_chars(rabbit_json:encode(maps:from_list([begin
    {{resource, _, queue, Name}} = proplists:get_value(name, Q),
    Arguments = [[K, V] || {{K, _, V}} <- proplists:get_value(arguments, Q)],
    {{Name, maps:from_list([{{arguments, Arguments}} | [{{F, proplists:get_value(F, Q)}} || F <- Facts]])}}
end || Q <- rabbit_amqqueue:info_all(<<"{vhost}">>, [name, arguments | Facts])])))
"""
BINDINGS = """
io:put_chars(rabbit_json:encode([[Exchange, Key, Queue] ||
    {{binding, {{resource, _, exchange, Exchange}}, Key, {{resource, _, queue, Queue}}, _}}
        <- rabbit_binding:list(<<"{vhost}">>)]))
"""
EXCHANGES = """
io:put_chars(rabbit_json:encode(maps:from_list([begin
    {{resource, _, exchange, Name}} = proplists:get_value(name, E),
    {{Name, maps:from_list([{{F, proplists:get_value(F, E)}} || F <- [type, durable, auto_delete, internal]])}}
end || E <- rabbit_exchange:info_all(<<"{vhost}">>)])))
"""


@dataclass(frozen=True)
class Vhost:
    """What a test has of the broker."""

    broker: Broker
    name: str

    def queues(self) -> dict[str, dict[str, Any]]:
        """`FACTS` and arguments of each, as the broker has them."""
        said = self.broker.tell(QUEUES.format(facts=", ".join(FACTS), vhost=self.name))
        return dict(json.loads(said))

    def bindings(self) -> set[tuple[str, str, str]]:
        """(exchange, key, queue)"""
        return {(exchange, key, queue) for exchange, key, queue in json.loads(self._ask(BINDINGS))}

    def exchanges(self) -> dict[str, dict[str, Any]]:
        return dict(json.loads(self._ask(EXCHANGES)))

    def put(self, queue: str, *bodies: bytes, exchange: str = "") -> None:
        """As a stranger says it: neither persistent nor confirmed nor mandatory."""

        async def publish() -> None:
            async with await aio_pika.connect(**self.login) as connection:
                channel = await connection.channel(publisher_confirms=False)
                by = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
                for body in bodies:
                    await by.publish(aio_pika.Message(body), queue, mandatory=False)

        asyncio.run(publish())

    def get(self, queue: str) -> tuple[bytes, Any]:
        """The first message there, taken away: body and properties."""

        async def take() -> tuple[bytes, Any]:
            async with await aio_pika.connect(**self.login) as connection:
                held = await (await connection.channel()).get_queue(queue)
                message = await held.get(no_ack=True)
                return message.body, message.properties

        return asyncio.run(take())

    @property
    def login(self) -> dict[str, Any]:
        """Arguments of `aio_pika.connect`."""
        port = self.broker.port
        return {"host": "127.0.0.1", "port": port, "virtualhost": self.name, "login": USER, "password": PASSWORD}

    def _ask(self, question: str) -> str:
        return self.broker.tell(question.format(vhost=self.name))


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Broker]:
    with contextlib.closing(Broker()) as broker:
        yield broker


@pytest.fixture
def vhost(rabbitmq: Broker) -> Vhost:
    """A fresh one."""
    return rabbitmq.vhost()


@pytest.fixture
def cut_proxy(rabbitmq: Broker) -> Iterator[CutProxy]:
    """Between the broker and whoever connects to `port`."""
    with contextlib.closing(CutProxy(rabbitmq.port)) as proxy:
        yield proxy

"""The scoreboard on a Redis in trouble: away, frozen, flushed, closed to us, or not whom it says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skystow.adapters.redis.board import BoardOptions, RedisBoard, RedisView
from skystow.errors import ConfigError, Unreachable
from tests.redis_server import PASSWORD, RedisServer
from tests.servers import certificates
from tests.system.redis_kit import LIMIT, board


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """One that may be killed."""
    with contextlib.closing(RedisServer()) as server:
        yield server


@pytest.fixture(scope="module")
def closed() -> Iterator[RedisServer]:
    with contextlib.closing(RedisServer("--requirepass", PASSWORD)) as server:
        server.ask("ACL", "SETUSER", "skystow", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        server.ask("ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "~*", "+@read", "+@connection")
        server.ask("ACL", "SETUSER", "elsewhere", "on", f">{PASSWORD}", "~other_*", "+@all")
        yield server


@pytest.fixture(scope="module")
def sealed() -> Iterator[RedisServer]:
    with contextlib.closing(RedisServer("--bind", "127.0.0.1", "127.0.0.2", tls=True)) as server:
        yield server


def refusal(board: RedisBoard) -> Unreachable:
    """The same, whatever is asked."""
    said: list[Unreachable] = []
    calls: list[Callable[[], object]] = [board.pop, lambda: board.register("f1", "forwarder/f1", "")]
    calls += [lambda: board.beat("a", "", 1), lambda: board.alive("a"), lambda: board.forget("a")]
    for call in calls:
        with pytest.raises(Unreachable) as caught:
            call()
        said.append(caught.value)
    assert {each.place for each in said} == {"scoreboard"}
    assert all(PASSWORD not in str(each) for each in said)
    return said[0]


class TestAway:
    def test_killed_and_started_again(self, own: RedisServer) -> None:
        with board(own) as here:
            here.beat("a", "", 60)
            here.register("f1", "forwarder/f1", "")
            own.kill()
            assert f"Redis at 127.0.0.1:{own.port} cannot be reached" in str(refusal(here))
            own.start()
            assert not here.alive("a")  # at the first call: the old connection is not tried in vain
            assert here.pop() is None

    def test_restarted_between_two_calls(self, own: RedisServer) -> None:
        with board(own) as here:
            for _ in range(3):
                here.beat("a", "", 60)
                own.restart()
            assert not here.alive("a")

    def test_frozen(self, own: RedisServer) -> None:
        with board(own, limit=0.1) as here, board(own, limit=0.1) as another:
            here.beat("a", "", 60)
            with own.frozen():
                began = time.monotonic()
                for each in (here, another):  # one that is connected, and one that connects now
                    assert "does not answer within 0.1 s" in str(refusal(each))
                assert time.monotonic() - began < LIMIT / 2
            assert here.alive("a")
            assert another.alive("a")

    def test_nothing_is_popped_for_an_answer_that_nobody_waits_for_twice(self, own: RedisServer) -> None:
        """A second try of a pop would lose what the first one took."""
        with board(own, limit=0.1) as here:
            for name in ("f1", "f2"):
                here.register(name, f"forwarder/{name}", "")
            with own.frozen(), pytest.raises(Unreachable):
                here.pop()
            found = here.pop()
            assert found is not None
            assert found.name == "f2"
            assert own.ask("LLEN", "forwarder_list") == 0

    def test_nobody_listens_there(self) -> None:
        with contextlib.closing(RedisServer()) as server:
            port = server.port
        options = BoardOptions(port=port, limit=1.0)
        with contextlib.closing(RedisBoard(options, queue_of=str, address_of=str)) as here:
            assert "refused" in str(refusal(here))

    def test_many_threads(self, redis_server: RedisServer) -> None:
        names = [f"f{n}" for n in range(40)]
        with board(redis_server) as here, ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda name: here.register(name, f"forwarder/{name}", ""), names * 3))
            found = list(threads.map(lambda _: here.pop(), names))
            assert sorted(each.name for each in found if each is not None) == sorted(names)
            assert here.pop() is None


class TestSecrets:
    @pytest.fixture
    def word(self, tmp_path: Path) -> str:
        path = tmp_path / "password"
        path.write_text(f"{PASSWORD}\n")
        path.chmod(0o600)
        return str(path)

    @pytest.mark.parametrize("user", [None, "default", "skystow"])
    def test_right(self, closed: RedisServer, word: str, user: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        closed.flush()
        monkeypatch.setenv("SCOREBOARD_WORD", PASSWORD)
        for secret in ({"password_file": word}, {"password_env": "SCOREBOARD_WORD"}):
            with board(closed, user=user, **secret) as here:
                here.register("f1", "forwarder/f1", "")
                here.beat("a", "", 1)
                assert here.alive("a")
                assert here.pop() is not None

    def test_wrong(self, closed: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCOREBOARD_WORD", "a wrong one")
        for user, name in ((None, "default"), ("skystow", "skystow"), ("nobody", "nobody")):
            with board(closed, user=user, password_env="SCOREBOARD_WORD") as here:  # noqa: S106 - a variable's name
                said = refusal(here)
            assert f"refuses user {name}" in str(said)
            assert "look at user: and at the password" in str(said)
            assert "a wrong one" not in str(said)

    def test_missing(self, closed: RedisServer) -> None:
        with board(closed) as here:
            assert "wants a password; name password_file: or password_env:" in str(refusal(here))

    def test_given_where_none_is_wanted(self, redis_server: RedisServer, word: str) -> None:
        with board(redis_server, user="skystow", password_file=word) as here:
            assert "refuses user skystow" in str(refusal(here))

    def test_not_allowed(self, closed: RedisServer, word: str) -> None:
        with board(closed, user="elsewhere", password_file=word) as here:
            assert "does not let user elsewhere use forwarder_list" in str(refusal(here))
        with board(closed, user="reader", password_file=word) as here:
            assert not here.alive("nobody")
            with pytest.raises(Unreachable, match="does not let user reader use a") as said:
                here.beat("a", "", 1)
            assert "ACL SETUSER" in said.value.remedy

    def test_a_file_that_others_can_read(self, word: str) -> None:
        Path(word).chmod(0o644)
        with pytest.raises(ConfigError, match=r"the scoreboard's password file .* may be read by others"):
            RedisBoard(BoardOptions(password_file=word), queue_of=str, address_of=str)

    def test_no_such_database(self, redis_server: RedisServer) -> None:
        with board(redis_server, db=99) as here:
            assert "has no database 99; look at db:" in str(refusal(here))

    def test_full(self, own: RedisServer) -> None:
        own.ask("CONFIG", "SET", "maxmemory", "1")
        with board(own) as here, pytest.raises(Unreachable, match="has no memory left; look at its maxmemory"):
            here.beat("a", "", 1)

    def test_a_replica(self, own: RedisServer) -> None:
        own.ask("REPLICAOF", "127.0.0.1", "1")
        with board(own) as here, pytest.raises(Unreachable, match="is a replica, which takes nothing"):
            here.beat("a", "", 1)


class TestTls:
    def test_right(self, sealed: RedisServer) -> None:
        ca, cert, key = (f"{sealed.home}/{name}.pem" for name in ("ca", "cert", "key"))
        for own in ({}, {"tls_cert": cert, "tls_key": key}):
            with board(sealed, tls_ca=ca, **own) as here:
                here.beat("a", "", 60)
                assert here.alive("a")

    def test_ours_is_asked_for(self, sealed: RedisServer) -> None:
        ca, cert, key = (f"{sealed.home}/{name}.pem" for name in ("ca", "cert", "key"))
        sealed.ask("CONFIG", "SET", "tls-auth-clients", "yes")
        with board(sealed, tls_ca=ca) as here, board(sealed, tls_ca=ca, tls_cert=cert, tls_key=key) as known:
            said = refusal(here)
            known.beat("a", "", 60)
            assert known.alive("a")
            known._link.ask("CONFIG", "SET", "tls-auth-clients", "optional", key="")
        assert "cannot be reached" in str(said)

    def test_another_authority(self, sealed: RedisServer, tmp_path: Path) -> None:
        certificates(tmp_path)
        with board(sealed, tls_ca=f"{tmp_path}/ca.pem") as here:
            said = refusal(here)
        assert "is not whom it says" in str(said)
        assert "look at tls: ca and at host" in str(said)

    def test_another_host(self, sealed: RedisServer) -> None:
        with board(sealed, tls_ca=f"{sealed.home}/ca.pem", host="127.0.0.2") as here:
            assert "is not whom it says" in str(refusal(here))

    def test_without_tls_on_either_side(self, sealed: RedisServer, redis_server: RedisServer) -> None:
        with board(sealed, limit=1.0) as here:
            assert "cannot be reached" in str(refusal(here))
        with board(redis_server, tls_ca=f"{sealed.home}/ca.pem", limit=0.1) as here:
            assert "does not answer within 0.1 s; does it speak TLS at this port?" in str(refusal(here))

    @pytest.mark.parametrize("spoiled", ["ca", "cert", "key"])
    def test_files_that_cannot_be_used(self, sealed: RedisServer, tmp_path: Path, spoiled: str) -> None:
        files = {f"tls_{name}": f"{sealed.home}/{name}.pem" for name in ("ca", "cert", "key")}
        (tmp_path / "rubbish").write_text("rubbish")
        for bad in ("rubbish", "missing"):
            with pytest.raises(ConfigError, match=f"the scoreboard's tls: .*{bad}"):
                RedisView(BoardOptions(**files | {f"tls_{spoiled}": str(tmp_path / bad)}), "x", queue_of=str)  # type: ignore[arg-type]

"""A broker that is not as the site file says, or a site file that is not as it should be: said in a sentence, with its
remedy, and mended without a restart of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skystow.adapters.rabbitmq import connection
from skystow.errors import ConfigError, PlaceFault
from tests.brokers import USER, Broker, Vhost
from tests.rabbit_kit import Desk, arrived, babbling, forwarded, items, numbers, until
from tests.rabbit_kit import desk as desk
from tests.servers import PASSWORD, certificates, free_port


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_REST", 0.05)
    monkeypatch.setattr(connection, "LONGEST_REST", 0.2)


def refusal(desk: Desk, **options: Any) -> str:
    """What an Archiver would say is wrong; to publish raises the same."""
    bus = desk.opened("archiver", **options)
    away = bus.away
    assert isinstance(away, PlaceFault)
    assert away.place == "bus"
    assert PASSWORD not in str(away)
    with pytest.raises(PlaceFault) as caught:
        bus.publish(items(1))
    assert caught.value.place == "bus"
    assert bus.receive("archiver", limit=9) == []
    bus.close()
    return str(away)


class TestWrong:
    def test_vhost(self, desk: Desk) -> None:
        said = refusal(desk, vhost="test_1")
        assert "does not open vhost ‘test_1’ to user ‘skystow’; see vhost: (the originals' begin with a slash)" in said

    def test_user_or_password(self, desk: Desk, tmp_path: Path) -> None:
        wrong = tmp_path / "password"
        wrong.write_text("not it")
        wrong.chmod(0o600)
        said = refusal(desk, user=USER, password_file=str(wrong))
        assert "does not let user ‘skystow’ in: wrong name or password; see user:" in said
        assert "not it" not in said

    def test_port(self, desk: Desk) -> None:
        assert refusal(desk, port=(port := free_port())) == (
            f"nobody listens at 127.0.0.1:{port}; start the broker, or see port:"
        )

    def test_host(self, desk: Desk) -> None:
        assert "the name of the broker at no.such.host.invalid" in refusal(desk, host="no.such.host.invalid")

    def test_permissions(self, desk: Desk) -> None:
        none = ", ".join(['<<"^$">>'] * 3)
        name = desk.vhost.name
        desk.vhost.broker.tell(
            f'rabbit_auth_backend_internal:set_permissions(<<"{USER}">>, <<"{name}">>, {none}, <<"tests">>)'
        )
        said = refusal(desk)
        assert "refuses: ACCESS_REFUSED - access to exchange 'message'" in said
        assert said.endswith("rabbitmqctl set_permissions")

    def test_it_is_mended_without_a_restart(self, desk: Desk, tmp_path: Path) -> None:
        secret = tmp_path / "password"
        secret.write_text("not it")
        secret.chmod(0o600)
        bus = desk.opened(user=USER, password_file=str(secret))
        assert "wrong name or password" in str(bus.away)
        secret.write_text(PASSWORD)
        until(lambda: bus.away is None)
        bus.publish(items(1))
        assert numbers(arrived(bus, 1)) == [1]


def made(vhost: Vhost, what: str) -> None:
    """Something of another kind is there already, by Erlang."""
    resource = f'rabbit_misc:r(<<"{vhost.name}">>, {{}}, <<"{{}}">>)'
    queue, exchange = resource.format("queue", "f1_consume"), resource.format("exchange", "message")
    quorum = '[{<<"x-queue-type">>, longstr, <<"quorum">>}]'
    arguments = {
        "classic": f"rabbit_amqqueue:declare({queue}, true, false, [], none, <<>>)",
        "quorum": f"rabbit_amqqueue:declare({queue}, true, false, {quorum}, none, <<>>)",
        "fleeting": f"rabbit_amqqueue:declare({queue}, false, false, [], none, <<>>)",
        "short": f'rabbit_amqqueue:declare({queue}, true, false, [{{<<"x-max-length">>, long, 5}}], none, <<>>)',
        "topic": f"rabbit_exchange:declare({exchange}, topic, true, false, false, [], <<>>)",
        "fleeting exchange": f"rabbit_exchange:declare({exchange}, direct, false, false, false, [], <<>>)",
    }
    vhost.broker.tell(arguments[what])


class TestUnlike:
    """What is there under our names is not what we declare: we touch nothing, and name the difference."""

    @pytest.mark.parametrize(
        ("what", "quorum", "said"),
        [
            (
                "quorum",
                False,
                "queue f1_consume is there as a quorum queue, we want classic; say queue_type: quorum",
            ),
            (
                "classic",
                True,
                "queue f1_consume is there as a classic queue, we want quorum; say queue_type: classic",
            ),
            ("fleeting", False, "queue f1_consume is there with durable = false, we want true; delete it, or"),
            ("short", False, "queue f1_consume is there with x-max-length = 5, we want nothing; delete it, or"),
            (
                "topic",
                False,
                "exchange message is there as a topic exchange, we want direct; say another exchange:",
            ),
            ("fleeting exchange", False, "exchange message is there with durable = false, we want true; delete it, or"),
        ],
    )
    def test_the_difference_is_named(self, desk: Desk, what: str, quorum: bool, said: str) -> None:
        made(desk.vhost, what)
        assert refusal(desk, quorum=quorum).startswith(said)

    @pytest.mark.parametrize("quorum", [False, True])
    def test_two_programs_do_not_share_a_queue(self, desk: Desk, quorum: bool) -> None:
        first, second = desk.opened(quorum=quorum), desk.opened(quorum=quorum)
        assert first.away is None
        assert "another program consumes queue archive_ctrl_consume" in str(second.away)
        first.publish(items(*range(20)))
        assert numbers(arrived(first, 20)) == list(range(20))
        assert second.receive("controller", limit=99) == []
        first.close()
        until(lambda: second.away is None)
        assert numbers(arrived(second, 20)) == list(range(20))


class TestSecrets:
    @pytest.fixture
    def credentials(self, tmp_path: Path) -> Path:
        """As an original has it."""
        home = tmp_path / ".lsst"
        home.mkdir(mode=0o700)
        file = home / "iip_cred.yaml"
        file.write_text(f"rabbitmq_users:\n    service_user: {USER}\n    service_passwd: '{PASSWORD}'\n")
        file.chmod(0o600)
        return file

    def test_the_originals_file(self, desk: Desk, credentials: Path) -> None:
        assert desk.opened(credentials=str(credentials)).away is None

    def test_from_the_environment(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BROKER_PASSWORD", PASSWORD)
        bus = desk.opened(user=USER, password_env="BROKER_PASSWORD")  # noqa: S106 - its name
        assert bus.away is None

    def test_a_guest_only_where_nobody_is_named(self, desk: Desk) -> None:
        assert desk.opened(user=None).away is None  # RabbitMQ's own guest/guest
        with pytest.raises(ConfigError, match="no password for user ‘skystow’"):
            desk.opened(user=USER, password_file=None)

    @pytest.mark.parametrize(
        ("file", "directory", "said"),
        [
            (0o640, 0o700, "may be read by others"),
            (0o400, 0o700, "has mode 0400, not 0600"),
            (0o600, 0o755, "has mode 0755, not 0700"),
            (0o600, 0o500, "has mode 0500, not 0700"),
        ],
    )
    def test_modes(self, desk: Desk, credentials: Path, file: int, directory: int, said: str) -> None:
        credentials.chmod(file)
        credentials.parent.chmod(directory)
        with pytest.raises(ConfigError, match=said) as caught:
            desk.opened(credentials=str(credentials))
        assert "chmod" in str(caught.value)
        assert PASSWORD not in str(caught.value)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "- a\n",
            "rabbitmq_users: 3\n",
            "rabbitmq_users: {service_user: u}\n",
            "rabbitmq_users: {service_user: '', service_passwd: hush}\n",
            "rabbitmq_users: {service_user: u, service_passwd: [hush]}\n",
            "rabbitmq_users: {service_user: u, service_passwd: hush\n",
            "rabbitmq_users: !!python/object/apply:os.system [hush]\n",
            "hush\0",
            "[" * 500,
        ],
        ids=len,
    )
    def test_what_says_nothing(self, desk: Desk, credentials: Path, content: str) -> None:
        credentials.write_text(content)
        with pytest.raises(ConfigError, match=r"iip_cred\.yaml (is no YAML|does not say who we are)") as caught:
            desk.opened(credentials=str(credentials))
        assert "hush" not in str(caught.value)

    def test_where_there_is_none(self, desk: Desk, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot read credentials file"):
            desk.opened(credentials=str(tmp_path / "none"))


class TestTls:
    def test_right(self, desk: Desk, rabbitmq: Broker) -> None:
        bus = desk.opened(port=rabbitmq.tls_port, tls_ca=str(rabbitmq.ca))
        bus.publish(items(1))
        assert numbers(arrived(bus, 1)) == [1]

    def test_and_we_show_a_certificate_too(self, desk: Desk, rabbitmq: Broker) -> None:
        ours = {"tls_cert": str(rabbitmq.home / "cert.pem"), "tls_key": str(rabbitmq.home / "key.pem")}
        assert desk.opened(port=rabbitmq.tls_port, tls_ca=str(rabbitmq.ca), **ours).away is None

    def test_another_authority(self, desk: Desk, rabbitmq: Broker, tmp_path: Path) -> None:
        certificates(tmp_path)
        said = refusal(desk, port=rabbitmq.tls_port, tls_ca=str(tmp_path / "ca.pem"))
        assert "has a certificate that we do not trust" in said
        assert "see whether tls: ca: is its authority" in said

    def test_another_name(self, desk: Desk, rabbitmq: Broker) -> None:
        said = refusal(desk, host="127.0.0.2", port=rabbitmq.tls_port, tls_ca=str(rabbitmq.ca))
        assert "nobody listens at 127.0.0.2" in said  # it listens at 127.0.0.1 alone
        with forwarded("127.0.0.2", rabbitmq.tls_port) as port:
            said = refusal(desk, host="127.0.0.2", port=port, tls_ca=str(rabbitmq.ca))
        assert "has a certificate that we do not trust: IP address mismatch" in said

    def test_where_it_speaks_none(self, desk: Desk, rabbitmq: Broker) -> None:
        assert "do not agree on TLS: wrong version number; see tls: and port:" in refusal(desk, tls_ca=str(rabbitmq.ca))

    def test_where_it_wants_it(self, desk: Desk, rabbitmq: Broker) -> None:
        assert "has closed the connection; see whether it wants tls:" in refusal(desk, port=rabbitmq.tls_port)

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ({"tls_ca": "none.pem"}, "none.pem is no authority: No such file"),
            ({"tls_ca": "broken.pem"}, "broken.pem is no authority"),
            ({"tls_cert": "cert.pem", "tls_key": "ca.key"}, "are no certificate and its key"),
            ({"tls_cert": "none.pem"}, "are no certificate and its key: No such file"),
        ],
    )
    def test_files(self, desk: Desk, rabbitmq: Broker, tmp_path: Path, files: dict[str, str], said: str) -> None:
        certificates(tmp_path)
        (tmp_path / "broken.pem").write_text("no certificate")
        options = {"tls_ca": str(rabbitmq.ca)} | {key: str(tmp_path / name) for key, name in files.items()}
        with pytest.raises(ConfigError, match=said):
            desk.opened(port=rabbitmq.tls_port, **options)


GARBAGE: dict[str, bytes] = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "another AMQP": b"AMQP\0\1\0\0",
    "zeros": bytes(64),
    "nothing": b"",
    "a frame without end": b"\1\0\0\0\0\0\4\0\x0a\0\x0a\0",
    "a frame of another kind": b"\x08\0\0\0\0\0\0\xce",
    "no table": b"\1\0\0\0\0\0\x0c\0\x0a\0\x0a\0\x09\xff\xff\xff\xffxx\xce",
}


class TestNoBroker:
    """Somebody else listens there."""

    @pytest.mark.parametrize("name", GARBAGE)
    def test_it_is_said_and_tried_again(self, desk: Desk, name: str) -> None:
        with babbling(GARBAGE[name]) as (port, greeted):
            said = refusal(desk, port=port)
            assert f"127.0.0.1:{port}" in said
            bus = desk.opened("archiver", port=port)
            before = len(greeted)
            until(lambda: len(greeted) > before + 2)
            assert bus.away is not None
            bus.close()

"""Fetching a header from a real server on the loopback, which may be as odd as it likes."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skystow.adapters.headers import FetchOptions, HeaderFetcher
from skystow.adapters.work import WorkDirectory
from skystow.errors import PlaceFault
from skystow.model.acts import FetchHeader
from skystow.model.reports import HeaderFetched
from skystow.simulate.comcam import ComCam, HeaderService
from tests.system.header_kit import HEADER, MD5, OBSID, STOP, Server, got, refused
from tests.system.header_kit import fetch as fetch
from tests.system.header_kit import server as server
from tests.system.header_kit import work as work


def test_a_header_is_kept_whole_and_read_only(server: Server, fetch: HeaderFetcher, work: WorkDirectory) -> None:
    url = server.gives(f"/{OBSID}.yaml", HEADER)
    assert got(fetch, url) == HEADER
    [report] = fetch(FetchHeader(OBSID, url, len(HEADER), MD5), stop=STOP)
    assert isinstance(report, HeaderFetched)
    path = Path(report.path)
    assert (path.parent.name, path.name) == ("header", f"{OBSID}.yaml")
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert len(server.asked) == 1, "what is there already is not fetched again"
    root = Path(os.fsdecode(work.tree.root))
    [private] = (root / ".skystow" / "making").iterdir()
    assert list(private.iterdir()) == []


def test_the_simulated_header_service(fetch: HeaderFetcher) -> None:
    camera = ComCam()
    with HeaderService(camera).serving() as service:
        camera.expose(OBSID)
        url = f"{service.url}/{OBSID}.yaml"
        assert "404" in refused(fetch, url).reason
        camera.read_out(OBSID)
        said = service.announced(OBSID)
        assert (said.url, said.size, said.checksum) == (url, len(HEADER), MD5)
        assert got(fetch, said.url, said.size, said.checksum) == HEADER


def test_without_size_and_checksum_what_comes_is_taken(server: Server, fetch: HeaderFetcher) -> None:
    for _ in range(2):
        assert got(fetch, server.gives("/h", HEADER), 0, "") == HEADER
    assert os.listdir(f"{os.fsdecode(fetch.work.tree.root)}/header") == [f"{OBSID}.yaml"]


def test_another_version_of_a_header_gets_a_name_of_its_own(server: Server, fetch: HeaderFetcher) -> None:
    other = HEADER + b"# again\n"
    assert got(fetch, server.gives("/one", HEADER)) == HEADER
    md5 = hashlib.md5(other, usedforsecurity=False).hexdigest()
    for _ in range(2):
        assert got(fetch, server.gives("/two", other), len(other), md5) == other
    assert got(fetch, server.url("/one")) == HEADER, "the first is as it was"


def test_redirects_are_followed_three_times(server: Server, fetch: HeaderFetcher) -> None:
    server.gives("/0", HEADER)
    for number in range(1, 5):
        server.gives(f"/{number}", b"", 302, Location=f"/{number - 1}")
    report = refused(fetch, server.url("/4"))
    assert report.final
    assert "more than 3" in report.reason
    assert got(fetch, server.url("/3")) == HEADER


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x", "http://u:p@127.0.0.1/"])
def test_a_redirect_elsewhere_is_not_followed(server: Server, fetch: HeaderFetcher, target: str) -> None:
    report = refused(fetch, server.gives("/h", b"", 301, Location=target))
    assert report.final
    assert server.asked == ["/h"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x.yaml",
        "/etc/passwd",
        "",
        "http://",
        "http:///x",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:0/x",
        "http://[::1/x",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nHost: x",
        "http://user:word@127.0.0.1/x",
        "javascript:alert(1)",
        "http://é/x",
        "x" * 5000,
    ],
)
def test_what_is_no_address_by_http_is_refused_for_good(fetch: HeaderFetcher, url: str) -> None:
    report = refused(fetch, url)
    assert report.final
    assert len(report.reason) < 1000


def test_only_hosts_that_are_allowed_are_asked(server: Server, work: WorkDirectory) -> None:
    strict = HeaderFetcher(work, FetchOptions(hosts=("headers.example",)))
    assert refused(strict, server.gives("/h", HEADER)).final
    assert server.asked == []
    assert got(HeaderFetcher(work, FetchOptions(hosts=("127.0.0.1",))), server.url("/h")) == HEADER


@pytest.mark.parametrize(
    ("path", "reason"), [("/nothing", "404"), ("/broken", "500"), ("/moved", "301"), ("/zipped", "gzip")]
)
def test_other_answers_are_asked_for_again(server: Server, fetch: HeaderFetcher, path: str, reason: str) -> None:
    server.gives("/broken", b"oops", 500)
    server.gives("/moved", b"", 301)
    server.gives("/zipped", HEADER, Content_Encoding="gzip")
    report = refused(fetch, server.url(path))
    assert reason in report.reason
    assert not report.final


def test_a_wrong_size_or_checksum_is_asked_for_again(server: Server, fetch: HeaderFetcher) -> None:
    url = server.gives("/h", HEADER)
    for report in (refused(fetch, url, len(HEADER) + 1, MD5), refused(fetch, url, len(HEADER), "ab" * 16)):
        assert "announced" in report.reason
        assert not report.final
    assert got(fetch, url, len(HEADER), MD5.upper()) == HEADER


def test_huge(server: Server, work: WorkDirectory) -> None:
    small = HeaderFetcher(work, FetchOptions(seconds=5.0, most_bytes=10_000))
    assert "more than 10000" in refused(small, server.gives("/said", b"x" * 10_001)).reason
    endless = server.drips("/endless", b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 5000)
    begun = time.monotonic()
    report = refused(small, endless)
    assert report.final
    assert "more than 10000" in report.reason
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5000\r\n\r\n", b"x"),
        (b"HTTP/1.0 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.0 200 OK\r\n", b"X: y\r\n"),
        (b"", b""),
    ],
)
def test_slow(server: Server, fetch: HeaderFetcher, start: bytes, drop: bytes) -> None:
    begun = time.monotonic()
    report = refused(fetch, server.drips("/slow", start, drop))
    assert not report.final
    assert time.monotonic() - begun < 5


def test_cut_off(server: Server, fetch: HeaderFetcher) -> None:
    report = refused(fetch, server.gives("/cut", HEADER[:100], Content_Length="5000"))
    assert "cut off after 100 of 5000" in report.reason
    assert not report.final


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9\r\n", b"", b"HTTP/1.0 abc\r\n\r\n", b"\0" * 70_000])
def test_no_http(fetch: HeaderFetcher, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            line, _ = listener.accept()
            with line:
                line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        report = refused(fetch, f"http://127.0.0.1:{listener.getsockname()[1]}/x")
        thread.join()
    assert not report.final


def test_nobody_listens(fetch: HeaderFetcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    report = refused(fetch, f"http://127.0.0.1:{port}/x")
    assert "refused" in report.reason
    assert not report.final


def yaml_of(text: str) -> tuple[bytes, str]:
    content = text.encode()
    return content, hashlib.md5(content, usedforsecurity=False).hexdigest()


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{two}: &{two} [*{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "PRIMARY:\n- !!python/object/apply:os.system ['touch /tmp/pwned']\n",
        "PRIMARY:\n- {keyword: !!binary aGVsbG8=, value: 1}\n",
        "PRIMARY: !x []\n",
        "PRIMARY: &a [*a]\n",
        "[" * 2000,
        "PRIMARY: text\n",
        "PRIMARY: [text]\n",
        "PRIMARY:\n- {keyword: X, value: [1, 2]}\n",
        "- 1\n",
        "text\n",
        "",
        "a: []\n---\nb: []\n",
        "{1: []}\n",
        "{[a]: []}\n",
        "PRIMARY: [\n",
        "\x00",
        "<html><body>It works!</body></html>",
    ],
)
def test_a_header_that_is_none(server: Server, fetch: HeaderFetcher, text: str) -> None:
    content, md5 = yaml_of(text)
    url = server.gives("/h", content)
    begun = time.monotonic()
    report = refused(fetch, url, len(content), md5)
    assert report.final, "it is what was announced"
    assert not refused(fetch, url).final, "it may have been cut off"
    assert time.monotonic() - begun < 3
    assert not os.path.exists("/tmp/pwned")  # noqa: S108


@pytest.mark.parametrize("obsid", ["../x", "a/b", "", "x;y"])
def test_a_name_that_cannot_become_a_file(server: Server, fetch: HeaderFetcher, obsid: str) -> None:
    assert refused(fetch, server.gives("/h", HEADER), obsid=obsid).final
    assert server.asked == []


def test_a_work_directory_that_is_gone_is_no_fault_of_the_header(server: Server, tmp_path: Path) -> None:
    away = HeaderFetcher(WorkDirectory(str(tmp_path / "away"), place="f99"))
    with pytest.raises(PlaceFault):
        away(FetchHeader(OBSID, server.gives("/h", HEADER), 0, ""), stop=STOP)


# ── HTTPS ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    names: Sequence[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "server.pem"
    path.write_bytes(secret + signed.public_bytes(pem))
    return path


def test_https_with_a_certificate_that_is_trusted(certificate: Path, work: WorkDirectory) -> None:
    one = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    one.http.socket = context.wrap_socket(one.http.socket, server_side=True, do_handshake_on_connect=False)
    one.scheme = "https"
    with one.serving():
        url = one.gives("/h", HEADER)
        slow = one.drips("/slow", b"HTTP/1.0 200 OK\r\nX: ", b"x")
        strict = HeaderFetcher(work, FetchOptions(seconds=1.0))
        assert "certificate" in refused(strict, url).reason
        trusting = HeaderFetcher(work, FetchOptions(seconds=1.0, ca_file=str(certificate)))
        begun = time.monotonic()
        assert not refused(trusting, slow).final
        assert time.monotonic() - begun < 5
        assert got(trusting, url) == HEADER

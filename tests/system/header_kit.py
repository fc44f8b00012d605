"""A real HTTP server on the loopback, which may be as odd as it likes, and who fetches headers from it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from skystow.adapters.headers import FetchOptions, HeaderFetcher
from skystow.adapters.work import WorkDirectory
from skystow.model.acts import FetchHeader
from skystow.model.reports import HeaderFailed, HeaderFetched
from skystow.simulate.comcam import expected_header

OBSID = "CC_O_20210304_000001"
HEADER = expected_header(OBSID)
MD5 = hashlib.md5(HEADER, usedforsecurity=False).hexdigest()
STOP = threading.Event()

Answer = Callable[[BaseHTTPRequestHandler], None]


def nothing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


class Server:
    """`answers` maps a path to what is done about it; `asked` are the paths in order."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                try:
                    server.answers.get(self.path, nothing)(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.scheme = "http"

    @contextmanager
    def serving(self) -> Iterator[Server]:
        thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            self.http.shutdown()
            self.http.server_close()
            thread.join()

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.http.server_port}{path}"

    def gives(self, path: str, content: bytes, status: int = 200, **headers: str) -> str:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in {"Content_Length": str(len(content)), **headers}.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(content)

        self.answers[path] = answer
        return self.url(path)

    def drips(self, path: str, start: bytes, drop: bytes) -> str:
        """Never ends, and never pauses for long."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(start)
            while not self.closing.wait(0.05):
                handler.wfile.write(drop)

        self.answers[path] = answer
        return self.url(path)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().serving() as one:
        yield one


@pytest.fixture
def work(tmp_path: Path) -> WorkDirectory:
    (tmp_path / "work").mkdir()
    return WorkDirectory(str(tmp_path / "work"), place="f99")


@pytest.fixture
def fetch(work: WorkDirectory) -> HeaderFetcher:
    return HeaderFetcher(work, FetchOptions(seconds=1.0))


def got(fetch: HeaderFetcher, url: str, size: int = len(HEADER), md5: str = MD5, obsid: str = OBSID) -> bytes:
    [report] = fetch(FetchHeader(obsid, url, size, md5), stop=STOP)
    assert isinstance(report, HeaderFetched), report
    return Path(report.path).read_bytes()


def refused(fetch: HeaderFetcher, url: str, size: int = 0, md5: str = "", obsid: str = OBSID) -> HeaderFailed:
    [report] = fetch(FetchHeader(obsid, url, size, md5), stop=STOP)
    assert isinstance(report, HeaderFailed), report
    root = os.fsdecode(fetch.work.tree.root)
    assert not os.path.exists(f"{root}/header") or not os.listdir(f"{root}/header"), "nothing of it is kept"
    return report

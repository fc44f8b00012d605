"""The hand that fetches a header: `FetchHeader` → `HeaderFetched` or `HeaderFailed`.

The URL comes from an event. Only HTTP and HTTPS are spoken, redirects included; every wait has an end, whatever drips;
no more is read than a header may have; and what came is compared with what the event said before it is kept.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import PurePosixPath
from typing import ClassVar
from urllib.parse import SplitResult, urljoin, urlsplit

from skystow.adapters import header_yaml
from skystow.adapters.work import WorkDirectory
from skystow.errors import BadName, Changed, DigestMismatch, FileFault, Missing, NameTaken, Stopped, Unreadable
from skystow.model.acts import Act, FetchHeader
from skystow.model.messages import Message, lawful_obsid
from skystow.model.records import shown
from skystow.model.reports import HeaderFailed, HeaderFetched
from skystow.ports import Stop

HEADERS = PurePosixPath("header")
MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_URL = re.compile(r"[!-~]{1,2048}")


class Unlawful(FileFault):
    """What asking again cannot change."""

    code = "unlawful"
    final: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """`seconds` for each of connecting and answering. `hosts`: those that may be asked (empty: all). `ca_file`: who is
    trusted over HTTPS, instead of those whom the system trusts."""

    seconds: float = 5.0
    most_bytes: int = 1 << 20
    hosts: Collection[str] = ()
    ca_file: str | None = None


class HeaderFetcher:
    """A `Hand`. Puts headers into `header/<obsid>.yaml` of the work directory."""

    def __init__(self, work: WorkDirectory, options: FetchOptions | None = None) -> None:
        self.work, self.options = work, options or FetchOptions()
        self._tls = ssl.create_default_context(cafile=self.options.ca_file)

    def __call__(self, act: Act, *, stop: Stop) -> Sequence[Message]:
        if not isinstance(act, FetchHeader):
            raise TypeError(f"no act of this hand: {act}")
        try:
            path = HEADERS / f"{lawful_obsid(act.obsid)}.yaml"
            if not (act.checksum and self._is_there(path, act.checksum, stop)):
                path = self._keep(path, self._fetch(act, stop), stop)
        except FileFault as fault:
            final = fault.final or isinstance(fault, BadName)
            return [HeaderFailed(act.obsid, f"{shown(act.url)[:300]}: {fault}", final)]
        return [HeaderFetched(act.obsid, str(self.work.absolute(path)))]

    def _is_there(self, path: PurePosixPath, checksum: str, stop: Stop) -> bool:
        """An earlier run, which was killed before it could say so, may have fetched it."""
        if self.work.tree.look(path) is None:
            return False
        return self.work.tree.digest(path, "md5", stop=stop).hex == checksum.lower()

    def _keep(self, path: PurePosixPath, content: bytes, stop: Stop) -> PurePosixPath:
        """An earlier version of it stays as it is."""
        for name in (path, path.with_name(f"{path.stem}.{_md5(content)}.yaml")):
            try:
                self.work.write(name, content)
            except NameTaken:
                if not self._is_there(name, _md5(content), stop):
                    continue
            return name
        raise Changed(f"{shown(name)} holds something else")

    def _fetch(self, act: FetchHeader, stop: Stop) -> bytes:
        content = self._get(act.url, stop)
        if act.size and len(content) != act.size:
            raise Changed(f"has {len(content)} bytes, {act.size} were announced")
        if act.checksum and _md5(content) != act.checksum.lower():
            raise DigestMismatch(f"has md5 {_md5(content)}, {shown(act.checksum)[:64]} was announced")
        try:
            header_yaml.parse(content)
        except Unreadable as fault:
            if act.checksum:  # so it was meant
                raise Unlawful(fault.message) from fault
            raise
        return content

    # ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _get(self, url: str, stop: Stop) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            if stop.is_set():
                raise Stopped("stopped while fetching a header")
            answer = self._ask(self._lawful(url))
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise Unlawful(f"redirected more than {MOST_REDIRECTS} times")

    def _lawful(self, url: str) -> SplitResult:
        try:
            if not _URL.fullmatch(url):
                raise Unlawful("is no URL")
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
                raise Unlawful(f"{shown(url)[:300]} is no address by http or https")
        except ValueError as error:
            raise Unlawful(f"is no URL: {error}") from error
        if parts.username is not None or parts.password is not None:
            raise Unlawful("has a user or password in its URL")
        if self.options.hosts and parts.hostname not in self.options.hosts:
            raise Unlawful(f"{parts.hostname} is not one of the hosts that may be asked")
        return parts

    def _ask(self, url: SplitResult) -> bytes | str:
        """The content, or where it is instead."""
        host, seconds = url.hostname or "", self.options.seconds
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            sock = socket.create_connection((host, port), timeout=seconds)
            with sock, _deadline(sock, seconds) as late:
                try:
                    return self._talk(url, sock, host, port)
                except (OSError, HTTPException) as error:
                    raise (Unreadable(f"not whole after {seconds:g} s") if late.is_set() else error) from error
        except HTTPException as error:
            raise Unreadable(f"no HTTP: {shown(str(error) or type(error).__name__)[:200]}") from error
        except (OSError, UnicodeError) as error:
            raise Unreadable(f"{host}: {shown(str(error))[:200]}") from error

    def _talk(self, url: SplitResult, sock: socket.socket, host: str, port: int) -> bytes | str:
        connection = HTTPConnection(host, port)
        if url.scheme == "https":
            sock = self._tls.wrap_socket(sock.dup(), server_hostname=host)
        connection.sock = sock
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        try:
            connection.request("GET", target, headers={"Accept-Encoding": "identity", "Connection": "close"})
            with connection.getresponse() as response:
                return self._read(response)
        finally:
            connection.close()

    def _read(self, response: HTTPResponse) -> bytes | str:
        if response.status in _REDIRECTS and (location := response.getheader("Location")):
            return location
        if response.status in (404, 410):
            raise Missing(f"{response.status} {shown(response.reason)[:100]}")
        if response.status != 200:
            raise Unreadable(f"the server answers {response.status} {shown(response.reason)[:100]}")
        if (encoding := response.getheader("Content-Encoding", "identity")) != "identity":
            raise Unreadable(f"is encoded as {shown(encoding)[:40]}")
        most, said = self.options.most_bytes, response.length
        content = b"" if said is not None and said > most else response.read(most + 1)
        if len(content) > most or (said is not None and said > most):
            raise Unlawful(f"has more than {most} bytes")
        if said is not None and len(content) < said:
            raise Unreadable(f"was cut off after {len(content)} of {said} bytes")
        return content


@contextmanager
def _deadline(sock: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Cut the line after `seconds`: a timeout of the socket begins anew with every byte that drips. A connection that
    TLS took over has a descriptor of its own, but the line is the same."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()

"""The originals' scoreboard: their list, their keys that expire, their hash of the Archiver (PROTOCOLS, section 2).

    forwarder_list             list of JSON objects with hostname, ip_address, consume_queue; LPUSH, RPOP
    <forwarder>_association    "pong", SETEX: a forwarder lives (originals share `f99_association`)
    ccarchiver_association     the paired forwarder's name, SETEX: the Archiver lives
    CCArchiver                 hash: state, session, jobnum, paired_forwarder

Whatever else lies there is named and left, or set aside: it never stands before what is good.
"""

from __future__ import annotations

import json
import logging
import math
import socket
from collections.abc import Callable, Mapping

from skystow.adapters.redis.link import BoardOptions, Link
from skystow.errors import BadName
from skystow.model.records import shown
from skystow.ports.talk import Listed

__all__ = ["BoardOptions", "RedisBoard", "RedisView"]

SHARED = "f99_association"
"""What every original forwarder keeps alive, whatever its name."""

FORWARDER = "forwarder/"
KEYS = ("hostname", "ip_address", "consume_queue")
LONGEST_ENTRY, LONGEST_NAME = 4096, 255
"""Bytes of an entry of the list, and characters of what it says, that are read at all."""

MOST_ASIDE = 100
"""Bad entries that are set aside at one look."""

MOST_SEEN = 1000
"""Entries of the list, the newest, among which ours is looked for."""

# On the server, so that no entry of another comes between, and none that is huge comes here.
REGISTER = """
local key, ours, queue, most, longest = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local same = {}
for place, entry in ipairs(redis.call('LRANGE', key, 0, most - 1)) do
  local read, said = false, nil
  if #entry <= longest then read, said = pcall(cjson.decode, entry) end
  if read and type(said) == 'table' and said.consume_queue == queue then same[#same + 1] = place - 1 end
end
for _, place in ipairs(same) do redis.call('LSET', key, place, ours) end
if #same == 0 then redis.call('LPUSH', key, ours) end
if #same > 1 then redis.call('LREM', key, #same - 1, ours) end
return #same
"""
POP = """
local entry = redis.call('RPOP', KEYS[1])
return entry and {#entry, string.sub(entry, 1, tonumber(ARGV[1]))}
"""


def _aside(reason: str) -> None:
    logging.getLogger(__name__).warning("%s", reason)


class RedisBoard:
    """See `skystow.ports.talk.Scoreboard`. A forwarder is known by its queue: `queue_of` an address, `address_of` a
    queue. `aside` is told of what lay on the list and is no forwarder."""

    def __init__(
        self,
        options: BoardOptions,
        *,
        queue_of: Callable[[str], str],
        address_of: Callable[[str], str],
        aside: Callable[[str], None] = _aside,
    ) -> None:
        """Connects to nobody yet. Raises `ConfigError` for secrets or certificates that cannot be read."""
        self.options, self.queue_of, self.address_of, self.aside = options, queue_of, address_of, aside
        self._link = Link(options)

    def close(self) -> None:
        self._link.close()

    def register(self, name: str, address: str, presence_key: str) -> None:
        """What is there of the same queue becomes ours, and one; its turn stays that of the longest waiting."""
        own, queue = self.options, self.queue_of(address)
        hostname = own.hostname or socket.gethostname()
        entry = _written(hostname, own.ip_address or _ip_address(own.host, own.port), queue)
        self._link.ask("EVAL", REGISTER, 1, own.list, entry, queue, MOST_SEEN, LONGEST_ENTRY, key=own.list)

    def pop(self) -> Listed | None:
        key = self.options.list
        for _ in range(MOST_ASIDE):
            found = self._link.ask("EVAL", POP, 1, key, LONGEST_ENTRY, key=key)
            if found is None:
                return None
            length, entry = found
            try:
                return self._listed(length, entry)
            except BadName as fault:
                self.aside(f"on the list {shown(key)} was {shown(repr(entry[:200]))}: {fault}")
        return None  # whoever waits behind so much rubbish is found at the next look

    def _listed(self, length: int, entry: bytes) -> Listed:
        """Raises `BadName`."""
        hostname, ip_address, queue = _read(length, entry)
        address = self.address_of(queue)
        host = f"{ip_address}:{hostname}"
        if address.startswith(FORWARDER):
            name = address.removeprefix(FORWARDER)
            return Listed(name, address, SHARED if self.options.shared else f"{name}_association", host)
        if "/" not in address:  # a component of ours that is no forwarder
            raise BadName(f"its queue {shown(queue)} is that of the {shown(address)}")
        return Listed(hostname, address, SHARED, host)

    def beat(self, key: str, value: str, seconds: float) -> None:
        """In whole seconds, as `SETEX` counts."""
        self._link.ask("SETEX", _bytes(key), max(1, math.ceil(seconds)), _bytes(value), key=key)

    def alive(self, key: str) -> bool:
        return bool(self._link.ask("EXISTS", _bytes(key), key=key))

    def forget(self, key: str) -> None:
        self._link.ask("DEL", _bytes(key), key=key)


class RedisView:
    """See `skystow.ports.talk.Panel`: the hash `device`, which is the Archiver's name."""

    def __init__(self, options: BoardOptions, device: str, *, queue_of: Callable[[str], str]) -> None:
        """Connects to nobody yet. Raises `ConfigError` for secrets or certificates that cannot be read."""
        self.device, self.queue_of = device, queue_of
        self._link = Link(options)

    def close(self) -> None:
        self._link.close()

    def show(self, facts: Mapping[str, str]) -> None:
        fields = self._fields(facts)
        words = [_bytes(word) for field in fields.items() for word in field]
        self._link.ask("HSET", _bytes(self.device), *words, key=self.device)

    def shows(self, facts: Mapping[str, str]) -> bool:
        fields = self._fields(facts)
        found = self._link.ask("HMGET", _bytes(self.device), *fields, key=self.device)
        return list(found) == [_bytes(value) for value in fields.values()]

    def _fields(self, facts: Mapping[str, str]) -> dict[str, str]:
        fields = {name: facts.get(name, "") for name in ("state", "session", "jobnum")}
        return fields | {"paired_forwarder": self._paired(facts)}

    def _paired(self, facts: Mapping[str, str]) -> str:
        """As it stood on the list; "" for none."""
        name = facts.get("paired_forwarder", "")
        for each in json.loads(facts.get("forwarders") or "[]"):
            if name and each["name"] == name:
                ip_address, _, hostname = str(each.get("host", "")).rpartition(":")
                return _written(hostname or name, ip_address, self.queue_of(each["address"]))
        return ""


def _written(*values: str) -> str:
    """An entry of the list, as the originals write it."""
    return json.dumps(dict(zip(KEYS, values, strict=True)), separators=(",", ":"))


def _read(length: int, entry: bytes) -> tuple[str, str, str]:
    """Hostname, IP address, queue. Raises `BadName`."""
    if length > LONGEST_ENTRY:
        raise BadName(f"{length} bytes are no forwarder")
    try:
        said = json.loads(entry)
    except (ValueError, RecursionError):
        raise BadName("it is not JSON") from None
    if not isinstance(said, dict):
        raise BadName("it is no JSON object")
    for key in KEYS:
        if key not in said:
            raise BadName(f"it has no {key}")
        value = said[key]
        if not isinstance(value, str) or len(value) > LONGEST_NAME or not value.isprintable():
            raise BadName(f"its {key} is no name")
    if not said["hostname"] or not said["consume_queue"]:
        raise BadName("its hostname or consume_queue is empty")
    return said["hostname"], said["ip_address"], said["consume_queue"]


def _ip_address(host: str, port: int) -> str:
    """By which we reach the scoreboard; nothing is sent."""
    try:
        family, kind, protocol, _, there = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(there)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"  # the scoreboard cannot be reached either, and says so


def _bytes(text: str) -> bytes:
    """Any text can be a key."""
    return text.encode(errors="surrogatepass")

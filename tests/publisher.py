"""A publisher as pysmurf's is: JSON datagrams with numbers from 0, to a port of loopback."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LINE = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
"""Of all publishers of this process; a monitor tells them apart by what they say."""


@dataclass
class Publisher:
    port: int
    id: str = "crate1slot2"
    host: str = "smurf-srv"
    script: str = "tune.py"
    number: int = 0

    def publish(self, kind: str, payload: Any, **more: Any) -> None:
        envelope = {"host": self.host, "id": self.id, "script": self.script, "time": time.time()}
        self.raw(json.dumps(envelope | {"seq_no": self.number, "type": kind, "payload": payload} | more).encode())
        self.number += 1

    def raw(self, datagram: bytes) -> None:
        LINE.sendto(datagram, ("127.0.0.1", self.port))

    def register(self, path: Path | str, **more: Any) -> None:
        told = {
            "path": str(path),
            "type": "tuning",
            "format": "txt",
            "timestamp": 1564799250.0,
            "action": "tune_band",
            "action_ts": "1564799249",
            "plot": False,
            "pysmurf_version": "7.1",
        }
        self.publish("data_file", told | more)

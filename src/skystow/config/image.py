"""The image door in a site file: camera, Archiver, Archive Controller, Forwarders, OODS."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from skystow.config.base import Count, Flag, Name, Path, Section
from skystow.config.host import Host
from skystow.config.units import Fraction, Mode, Seconds, Size
from skystow.config.wire import WIRE_SECTIONS, QueueName, RabbitMQ, Redis, Sal
from skystow.model.remote import RemoteHost

Detector = Annotated[str, StringConstraints(pattern=r"^R[0-9A-Z]{2}_S[0-9A-Z]{2}$")]
InitialState = Literal["enabled", "standby", "last"]


class ArchiverConfig(Section):
    """Seconds: `ack_timeout` for an answer, `heartbeat` between looks at the Controller, `patience` without any
    forwarder before the fault, `deadline` from endReadout to an image that is complete."""

    initial_state: Literal["standby", "last"] = "standby"
    ack_timeout: Annotated[Seconds, Field(gt=0)] = 5.0
    heartbeat: Annotated[Seconds, Field(gt=0)] = 5.0
    patience: Annotated[Seconds, Field(gt=0)] = 30.0
    deadline: Annotated[Seconds, Field(gt=0)] = 7.0
    catch_up: Flag = False


class ControllerConfig(Section):
    initial_state: InitialState = "enabled"
    sweep_after: Annotated[Seconds, Field(gt=0)] = 600.0
    sweep_every: Annotated[Seconds, Field(gt=0)] = 600.0


class Staging(Section):
    """Where forwarders send, and where the day directories are. Data Backbone and OODS lie on its file system."""

    root: Path
    min_free: Fraction = 0.05
    directory_mode: Mode = 0o2775


class Backbone(Section):
    root: Path
    directory_mode: Mode = 0o2775


class Expiry(Section):
    """`older_than` seconds since ingest; with `keep_free`, only while less than that is free. `requires`: destinations
    of the file archiver that must have the file, proven, on another device."""

    older_than: Annotated[Seconds, Field(gt=0)]
    keep_free: Fraction | None = None
    requires: tuple[Name, ...] = ()
    every: Annotated[Seconds, Field(gt=0)] = 60.0


class Oods(Section):
    root: Path
    bad_files: Path
    directory_mode: Mode = 0o2775
    initial_state: InitialState = "enabled"
    hook: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    expire: Expiry | None = None


class RawCamera(Section):
    """A directory of raw frames, `<obsid>/<detector>.npy`; looked at again until `patience` seconds have passed."""

    kind: Literal["raw"]
    root: Path


class SimulatedCamera(Section):
    """Pixels that are a pure function of the exposure's name: for demonstrations and tests."""

    kind: Literal["simulated"]
    width: Annotated[Count, Field(le=4096)] = 64
    height: Annotated[Count, Field(le=4096)] = 32


CameraConfig = Annotated[RawCamera | SimulatedCamera, Field(discriminator="kind")]


class ForwarderConfig(Section):
    """`send`: `link` where `work` is on staging's file system (written once), `copy` to another one of this host,
    `remote` by rsync over SSH to staging at `host`, with `streams` connections at the same time. `queue`: where it is
    spoken to (None: `<name>_consume`)."""

    name: Name
    queue: QueueName | None = None
    work: Path
    camera: CameraConfig
    send: Literal["link", "copy", "remote"] = "link"
    host: Host | None = None
    streams: Annotated[Count, Field(le=64)] = 2
    threads: Annotated[Count, Field(le=64)] = 2
    initial_state: InitialState = "enabled"
    ack_timeout: Annotated[Seconds, Field(gt=0)] = 10.0
    header_timeout: Annotated[Seconds, Field(gt=0)] = 5.0
    header_size: Annotated[Size, Field(gt=0)] = 2**20

    @model_validator(mode="after")
    def _far(self) -> ForwarderConfig:
        if (self.send == "remote") != (self.host is not None):
            raise ValueError("send: remote needs a host:, and nothing else does")
        return self


class Image(Section):
    """One camera's image archiver. `name` and `camera` are what SAL events say, `short_name` prefixes messages. Without
    `bus` and `scoreboard` the components talk by tables of the ledger; without `sal` only `skystow control` commands
    the Archiver."""

    name: Name = "CCArchiver"
    short_name: Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,8}$")] = "CC"
    camera: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,32}$")] = "COMCAM"
    detectors: Annotated[tuple[Detector, ...], Field(min_length=1)]
    staging: Staging
    backbone: Backbone | None = None
    oods: Oods | None = None
    archiver: ArchiverConfig = ArchiverConfig()
    controller: ControllerConfig = ControllerConfig()
    forwarders: Annotated[tuple[ForwarderConfig, ...], Field(min_length=1)]
    bus: RabbitMQ | None = None
    scoreboard: Redis | None = None
    sal: Sal | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> Image:
        if self.backbone is None and self.oods is None:
            raise ValueError("needs a backbone or an oods: files must go somewhere")
        if len({each.name for each in self.forwarders}) < len(self.forwarders):
            raise ValueError("each of the forwarders needs a name of its own")
        if len(set(self.detectors)) < len(self.detectors):
            raise ValueError("detectors names one twice")
        if len({str(each.host.remote()) if each.host else "" for each in self.forwarders}) > 1:
            raise ValueError("the forwarders must all send to the same host: they are told one location")
        return self

    @property
    def host(self) -> RemoteHost | None:
        """Where forwarders see staging; None: on their own host."""
        host = self.forwarders[0].host
        return host.remote() if host else None


IMAGE_SECTIONS: dict[tuple[str, ...], type[Section]] = {
    ("image",): Image,
    ("image", "archiver"): ArchiverConfig,
    ("image", "controller"): ControllerConfig,
    ("image", "staging"): Staging,
    ("image", "backbone"): Backbone,
    ("image", "oods"): Oods,
    ("image", "oods", "expire"): Expiry,
    ("image", "forwarders"): ForwarderConfig,
    ("image", "forwarders", "host"): Host,
    ("image", "forwarders", "camera", "raw"): RawCamera,
    ("image", "forwarders", "camera", "simulated"): SimulatedCamera,
    **WIRE_SECTIONS,
}

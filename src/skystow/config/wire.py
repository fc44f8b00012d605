"""RabbitMQ and Redis in a site file: where they are, who we are there, and the names that others expect."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from skystow.config.base import Flag, Path, Section, Tls
from skystow.config.units import Seconds

QueueName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,200}$")]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,253}$")]
Component = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]{0,63}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Queues(Section):
    """Names of queues, as CCArchiver 3.1 was deployed; None: with the camera's short name, `cc_…`."""

    controller: QueueName = "archive_ctrl_consume"
    controller_failures: QueueName = "archive_ctrl_publish"
    acks: QueueName | None = None
    """`cc_foreman_ack_publish`"""
    oods: QueueName | None = None
    """`cc_publish_to_oods`"""
    oods_answers: QueueName | None = None
    """`oods_publish_to_cc`"""
    telemetry: QueueName = "telemetry_queue"


class RabbitMQ(Section):
    """A broker. The password is in `password_file` (mode 0600), in `$password_env`, or user and password are in
    `credentials`, a file as the originals have it (`iip_cred.yaml`, mode 0600 in a directory of mode 0700)."""

    kind: Literal["rabbitmq"]
    host: Host = "127.0.0.1"
    port: Port | None = None
    """None: 5672, with TLS 5671."""
    vhost: Annotated[str, StringConstraints(min_length=1, max_length=255)] = "/"
    user: Annotated[str, StringConstraints(min_length=1)] | None = None
    password_file: Path | None = None
    password_env: Variable | None = None
    credentials: Path | None = None
    tls: Tls | None = None
    exchange: QueueName = "message"
    queue_type: Literal["classic", "quorum"] = "classic"
    heartbeat: Annotated[Seconds, Field(ge=1, le=600)] = 30.0
    queues: Queues = Queues()

    @model_validator(mode="after")
    def _one_secret(self) -> RabbitMQ:
        if sum(each is not None for each in (self.password_file, self.password_env, self.credentials)) > 1:
            raise ValueError("says more than once where the password is")
        if self.credentials is not None and self.user is not None:
            raise ValueError("credentials: names the user too, so user: must go")
        if self.user is None and (self.password_file or self.password_env):
            raise ValueError("has a password and no user:")
        return self


class Redis(Section):
    """A scoreboard. `presence: shared` keeps the one key that original forwarders keep, `f99_association`."""

    kind: Literal["redis"]
    host: Host = "127.0.0.1"
    port: Port = 6379
    db: Annotated[int, Field(strict=True, ge=0, le=65535)] = 14
    user: Annotated[str, StringConstraints(min_length=1)] | None = None
    password_file: Path | None = None
    password_env: Variable | None = None
    tls: Tls | None = None
    list: QueueName = "forwarder_list"
    presence: Literal["own", "shared"] = "own"
    view: Flag = True
    """Whether the Archiver keeps the hash with its name up to date."""

    @model_validator(mode="after")
    def _one_secret(self) -> Redis:
        if self.password_file is not None and self.password_env is not None:
            raise ValueError("says more than once where the password is")
        return self


class Sal(Section):
    """The Archiver as a component that SAL commands, over DDS. `camera`, `header_service`: whose events it hears (None:
    by the short name, `CCCamera`). `definitions`: a directory of topic definitions (None: our own). `image_index`: what
    the first image of a sequence has (None: as the camera's definitions say). `durability_service`: one keeps what is
    TRANSIENT, so that states need not be said again. The rest is in the environment, as everywhere on SAL."""

    kind: Literal["dds"]
    camera: Component | None = None
    header_service: Component | None = None
    definitions: Path | None = None
    image_index: Literal[0, 1] | None = None
    durability: Literal["transient_local", "transient"] = "transient_local"
    durability_service: Flag = False
    ack_ownership: Literal["exclusive", "shared"] = "exclusive"

    @model_validator(mode="after")
    def _kept(self) -> Sal:
        if self.durability_service and self.durability != "transient":
            raise ValueError("durability_service: keeps only what is durability: transient")
        return self


WIRE_SECTIONS: dict[tuple[str, ...], type[Section]] = {
    ("image", "bus"): RabbitMQ,
    ("image", "bus", "tls"): Tls,
    ("image", "bus", "queues"): Queues,
    ("image", "scoreboard"): Redis,
    ("image", "scoreboard", "tls"): Tls,
    ("image", "sal"): Sal,
}

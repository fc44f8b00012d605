"""What is wrong between us and the broker, as a sentence and its remedy."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct

from aiormq.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from pamqp.exceptions import PAMQPException

from skystow.adapters.rabbitmq.options import BrokerOptions
from skystow.errors import ConfigError, PlaceFault, Unreachable
from skystow.model.records import shown

PLACE = "bus"

_TROUBLE = (
    *(AMQPError, PAMQPException, ConfigError, PlaceFault, OSError, EOFError),
    *(RuntimeError, ValueError, LookupError, AttributeError, StopAsyncIteration, struct.error),
)


def is_trouble(error: Exception) -> bool:
    """Whether a connection may end by it: its library, the network, TLS, what a person must mend, whatever the library
    makes of bytes that are no AMQP; and the bare class, which it throws where a connection ends while it is made."""
    return isinstance(error, _TROUBLE) or type(error) is Exception


_UNLIKE = re.compile(
    r"inequivalent arg '(?P<arg>[^']*)' for (?P<what>queue|exchange) '(?P<name>.*)' in vhost '.*':"
    r" received (?P<want>.*?) but current is (?P<have>.*)",
    re.DOTALL,
)
_IN_USE = re.compile(r"queue '(.*)' in vhost '.*' in exclusive use", re.DOTALL)
_VALUE = re.compile(r"(?:the value )?'([^']*)'(?: of type '.*')?")


def fault(text: str, remedy: str = "") -> PlaceFault:
    return Unreachable(text, place=PLACE, remedy=remedy)


def in_use(queue: str) -> PlaceFault:
    text = f"another program consumes queue {shown(queue)}, or a connection of ours that has not ended there yet"
    return fault(text, "stop one of the two: each would get a part of what is said")


def why(options: BrokerOptions, user: str, error: BaseException | None, *, stood: bool) -> PlaceFault:
    """Why there is no connection, or, where it `stood`, none any more."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__  # the library wraps what the network says
    for each in chain:
        if (found := _of(options, user, each, stood)) is not None:
            return found
    said = [shown(str(each)) for each in chain if str(each) and not isinstance(each, asyncio.CancelledError)]
    return fault(f"{options.where} is away: {said[0][:500] if said else 'the connection was closed'}")


def _of(options: BrokerOptions, user: str, error: BaseException, stood: bool) -> PlaceFault | None:
    where = options.where
    match error:
        case PlaceFault():
            return error
        case ConfigError():
            return fault(error.message, error.remedy)
        case ssl.SSLCertVerificationError():
            text = f"{where} has a certificate that we do not trust: {error.verify_message}"
            return fault(text, "see whether tls: ca: is its authority, and host: a name of its certificate")
        case ssl.SSLError():
            reason = (error.reason or str(error)).replace("_", " ").lower()
            return fault(f"{where} and we do not agree on TLS: {reason}", "see tls: and port:")
        case ConnectionRefusedError():
            return fault(f"nobody listens at {where.removeprefix('the broker at ')}", "start the broker, or see port:")
        case socket.gaierror():
            return fault(f"the name of {where} is not known: {error.strerror}", "see host:")
        case TimeoutError():
            return fault(f"{where} does not answer")
        case ProbableAuthenticationError():
            text = f"{where} does not let user ‘{shown(user)}’ in: wrong name or password"
            return fault(text, "see user: and its password, or rabbitmqctl change_password")
        case ChannelPreconditionFailed() if found := _UNLIKE.search(str(error)):
            return _unlike(found)
        case ChannelAccessRefused() if found := _IN_USE.search(str(error)):
            return in_use(found[1])
        case ChannelAccessRefused() | ChannelNotFoundEntity() | ChannelLockedResource() | ChannelPreconditionFailed():
            remedy = "rabbitmqctl set_permissions" if isinstance(error, ChannelAccessRefused) else ""
            return fault(f"{where} refuses: {shown(str(error))[:500]}", remedy)
        case ConnectionNotAllowed():
            return _vhost(options, user, f": {shown(str(error))[:500]}")
        case InvalidFrameError() if "Connection.OpenOk" in str(error):  # the library keeps to itself what it got
            return _vhost(options, user, "")
        case AMQPConnectionError() if any(each in str(error) for each in ("unexpectedly closed", "reset by peer")):
            return fault(
                f"{where} has closed the connection", "" if options.tls_ca or stood else "see whether it wants tls:"
            )
        case _:
            return None


def _vhost(options: BrokerOptions, user: str, said: str) -> PlaceFault:
    text = f"{options.where} does not open vhost ‘{shown(options.vhost)}’ to user ‘{shown(user)}’{said}"
    remedy = "see vhost: (the originals' begin with a slash), rabbitmqctl list_vhosts and set_permissions"
    return fault(text, remedy)


def _unlike(found: re.Match[str]) -> PlaceFault:
    """What is there under a name of ours is not what we declare."""
    what, name, arg = found["what"], shown(found["name"]), shown(found["arg"])
    have, want = (_value(found[each]) for each in ("have", "want"))
    if what == "queue" and arg == "x-queue-type":
        have, want = have or "classic", want or "classic"
        text = f"queue {name} is there as a {have} queue, we want {want}"
        return fault(text, f"say queue_type: {have}, or delete it")
    if what == "exchange" and arg == "type":
        text = f"exchange {name} is there as a {have} exchange, we want {want}"
        return fault(text, "say another exchange:, or delete it")
    text = f"{what} {name} is there with {arg} = {have or 'nothing'}, we want {want or 'nothing'}"
    return fault(text, f"delete it, or give the {what} another name")


def _value(said: str) -> str:
    """`none`, `'true'`, `the value 'quorum' of type 'longstr'`."""
    found = _VALUE.match(said)
    return shown(found[1]) if found else "" if said.startswith("none") else shown(said[:200])

"""Which classes of kombu's the connections of a worker are made of."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, Protocol, cast

from kombu import Connection
from kombu.transport import redis as kombu_redis

from tomskit.celery._internals import kombu as kombu_types
from tomskit.celery.fast_redis.channel import FastChannel, FastQoS
from tomskit.celery.fast_redis.poller import FastPoller

__all__ = ("Parts", "connection_class", "fast_parts")


@dataclass(frozen=True, slots=True)
class Parts:
    """Classes that are put in front of kombu's, for Redis and all that is built on its transport.

    Attributes:
        channel: In front of its channels.
        qos: In front of what acknowledges.
        connection: In front of redis-py's connections.
        fast: Whether the poller is ours.
    """

    channel: tuple[type, ...] = ()
    qos: tuple[type, ...] = ()
    connection: tuple[type, ...] = ()
    fast: bool = False


@cache
def connection_class(parts: Parts) -> type[Connection]:
    """Kombu's Connection, of transports that have these parts where they are Redis's."""

    def get_transport_cls(self: Connection) -> type:
        transport = cast("Hashable", Connection.get_transport_cls(self))
        return _transport_class(transport, parts)

    # The name is in log lines.
    members = {"get_transport_cls": get_transport_cls, "__module__": Connection.__module__}
    return type(Connection.__name__, (Connection,), members)


def fast_parts(*, tasks_run: Literal["elsewhere", "in threads", "in the turn"]) -> Parts:
    """The fast path.

    Args:
        tasks_run: Where, as seen from the worker's turn, in which it also talks to Redis.
    """
    return Parts(channel=(FastChannel,), qos=(_QOS[tasks_run],), fast=True)


class _ByTurn(FastQoS):
    by_turn = True


class _OneByOne(FastQoS):
    # Celery acknowledges a task in the turn after that in which its message came. Were there many in
    # a turn that runs them as well, a worker that is killed would have acknowledged none of them.
    at_once = 1


_QOS: Final = {"elsewhere": _ByTurn, "in threads": FastQoS, "in the turn": _OneByOne}


class _FastTransport(kombu_types.Transport):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = FastPoller()


@cache
def _transport_class(known: Hashable, parts: Parts) -> type:
    transport = cast("type[object]", known)
    if not issubclass(transport, kombu_redis.Transport):
        return transport
    members = {
        "Channel": _channel_class(cast("_Classes", transport).Channel, parts),
        "__module__": transport.__module__,
    }
    bases = (_FastTransport, transport) if parts.fast else (transport,)
    return type(transport.__name__, bases, members)


def _channel_class(channel: type, parts: Parts) -> type:
    classes = cast("_Classes", channel)
    members = {
        "QoS": _in_front(parts.qos, classes.QoS),
        "connection_class": _in_front(parts.connection, classes.connection_class),
        "connection_class_ssl": _in_front(parts.connection, classes.connection_class_ssl),
    }
    return type(channel.__name__, (*parts.channel, channel), members)


def _in_front(parts: tuple[type, ...], base: type) -> type:
    return type(base.__name__, (*parts, base), {"__module__": base.__module__}) if parts else base


class _Classes(Protocol):
    Channel: type
    QoS: type
    connection_class: type
    connection_class_ssl: type

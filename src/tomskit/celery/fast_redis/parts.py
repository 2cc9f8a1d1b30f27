"""Connections of kombu whose channels, acknowledgements and sockets are classes of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar

import redis
from kombu import Connection
from kombu.connection import ConnectionPool, PooledConnection
from kombu.transport import pyamqp
from kombu.transport import redis as kombu_redis
from typing_extensions import override

from tomskit.celery._internals.amqp import read_in_pieces, without_limit
from tomskit.celery._internals.kombu import arguments_of
from tomskit.celery._internals.kombu_redis import MultiChannelPoller, Transport
from tomskit.celery.fast_redis.acknowledging import FastQoS
from tomskit.celery.fast_redis.channel import FastChannel
from tomskit.celery.fast_redis.connections import AwayConnection
from tomskit.celery.fast_redis.deadlines import SECONDS
from tomskit.celery.fast_redis.guarded import GuardedChannel
from tomskit.celery.fast_redis.outstanding import KeepingQoS
from tomskit.celery.fast_redis.poller import FastPoller, WatchfulPoller

__all__ = ("Parts", "connection_class", "fast_parts", "in_front", "kombu_parts")

T = TypeVar("T")
C = TypeVar("C", bound=Connection)


@dataclass(frozen=True, slots=True)
class Parts:
    """Classes that are put in front of kombu's, for Redis and all that is built on its transport.

    Attributes:
        channel: In front of its channels.
        qos: In front of the classes that acknowledge.
        connection: In front of redis-py's connections.
        poller: In place of its poller.
        fetch_bytes: How many bytes a fetch of the fast path takes at most, beyond its first message.
    """

    channel: tuple[type, ...] = ()
    qos: tuple[type, ...] = ()
    connection: tuple[type, ...] = ()
    poller: type[MultiChannelPoller] | None = None
    fetch_bytes: int | None = None


def connection_class(parts: Parts) -> type[Connection]:
    """Kombu's Connection, of transports that have these parts where they are Redis's.

    That of AMQP does not wait for the rest of a frame, and for an answer some seconds only. So do those of its
    pools, whose transports of Redis are kombu's own, as they are without any parts.
    """
    return _connection_class(Connection, parts)


@cache
def _connection_class(base: type[C], parts: Parts) -> type[C]:
    made: dict[type[object], type[object]] = {}

    def get_transport_cls(self: Connection) -> type[object]:
        transport: type[object] = Connection.get_transport_cls(self)
        if transport not in made:
            if issubclass(transport, kombu_redis.Transport) and parts != Parts():
                made[transport] = _transport_class(transport, parts)
            elif issubclass(transport, pyamqp.Transport):
                made[transport] = in_front(transport, _PiecewiseTransport)
            else:
                made[transport] = transport
        return made[transport]

    def as_uri(
        self: Connection, include_password: bool = False, mask: str = "**", **options: object
    ) -> str:
        # kombu shows a mask where there is no password as well.
        plain = not (self.password or self.uri_prefix or self.transport.can_parse_url)
        show: Callable[..., str] = Connection.as_uri
        return show(self, include_password or plain, mask, **options)

    def pool_of(self: Connection, limit: int | None = None, **options: Any) -> ConnectionPool:
        return _Pool(self, limit, **options)

    members = {
        "get_transport_cls": get_transport_cls,
        "as_uri": as_uri,
        "Pool": pool_of,
        # Log lines show its name.
        "__module__": base.__module__,
    }
    kind: Any = type(base.__name__, (base,), members)
    named: type[C] = kind
    return named


class _Pool(ConnectionPool):
    @override
    def new(self) -> Connection:
        make: Callable[..., Connection] = _connection_class(PooledConnection, Parts())
        return make(self, **arguments_of(self.connection))


def fast_parts(
    *,
    tasks_run: Literal["elsewhere", "in the turn"],
    fetch_bytes: int | None = None,
) -> Parts:
    """The fast path.

    Args:
        tasks_run: Where; the worker talks to Redis in the same turns of its loop.
        fetch_bytes: How many bytes a fetch takes at most, beyond its first message.
    """
    return Parts(
        channel=(FastChannel,),
        qos=(_QOS[tasks_run],),
        connection=(AwayConnection,),
        poller=FastPoller,
        fetch_bytes=fetch_bytes,
    )


def kombu_parts() -> Parts:
    """The path of kombu, without its errors about messages that it cannot read.

    Answers such as READONLY are a connection that was lost.
    """
    return Parts(
        channel=(GuardedChannel,),
        qos=(KeepingQoS,),
        connection=(AwayConnection,),
        poller=WatchfulPoller,
    )


class _OneByOne(FastQoS):
    # Celery acknowledges a task in the turn after that in which its message came. Were there many in
    # a turn that runs them as well, a worker that is killed would have acknowledged none of them.
    by_turn = False
    at_once = 1


_QOS: Final = {"elsewhere": FastQoS, "in the turn": _OneByOne}


if TYPE_CHECKING:

    class _AMQPTransport:
        def establish_connection(self) -> object: ...
        def drain_events(self, connection: object, **options: object) -> object: ...

else:
    _AMQPTransport = object


class _PiecewiseTransport(_AMQPTransport):
    @override
    def establish_connection(self) -> object:
        connection = super().establish_connection()
        read_in_pieces(connection, SECONDS)
        return connection

    @override
    def drain_events(self, connection: object, **options: object) -> object:
        # Who waits for messages says how long. py-amqp itself waits for answers by another way.
        with without_limit(connection):
            return super().drain_events(connection, **options)


class _PollingTransport(Transport):
    poller: ClassVar[type[MultiChannelPoller]]

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = self.poller()


def _transport_class(transport: type[kombu_redis.Transport], parts: Parts) -> type:
    members: dict[str, object] = {
        "Channel": _channel_class(transport.Channel, parts),
        "__module__": transport.__module__,
    }
    bases: tuple[type, ...] = (transport,)
    if parts.poller is not None:
        members["poller"] = parts.poller
        bases = (_PollingTransport, transport)
    return type(transport.__name__, bases, members)


def _channel_class(channel: type[kombu_redis.Channel], parts: Parts) -> type:
    members: dict[str, object] = {
        "QoS": _in_front(parts.qos, channel.QoS),
        "connection_class": _in_front(parts.connection, channel.connection_class),
        "connection_class_ssl": _in_front(parts.connection, channel.connection_class_ssl),
        "connection_class_socket": _in_front(parts.connection, redis.UnixDomainSocketConnection),
    }
    if parts.fetch_bytes is not None:
        members["fetch_bytes"] = parts.fetch_bytes
    return type(channel.__name__, (*parts.channel, channel), members)


def _in_front(parts: tuple[type, ...], base: type[object] | None) -> type[object] | None:
    if not parts or base is None:
        return base
    return in_front(base, *parts)


def in_front(base: type[T], *parts: type) -> type[T]:
    """A class with parts put in front of another one, whose name it has."""
    made: Any = type(base.__name__, (*parts, base), {"__module__": base.__module__})
    kind: type[T] = made
    return kind

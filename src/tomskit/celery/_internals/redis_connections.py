"""redis-py: the sockets and parsers of its connections, and the parameters of its pools.

`Connection._sock`
    For: waiting for an answer in the asyncio loop, knowing a connection that was made anew, and ending one
    so that what Redis has sent on it can be read.
    When it is missing: a worker with Redis raises AttributeError when it connects.

`Connection._connect`, which returns the socket
    For: waiting for an answer, and for the rest of one, in the asyncio loop.
    When it is missing: a worker with the asyncio pool and a Redis broker raises AttributeError when it
    connects, or waits for Redis without running coroutines.

`Connection.socket_timeout` and `socket_connect_timeout`, which `Connection._connect` reads
    For: waiting for a few seconds only for a silent broker while the worker stops.
    When it is missing: a worker with Redis raises AttributeError when it connects.

`Connection._parser`, its ``set_invalidation_push_handler``
    For: hearing that a queue is not empty any more, without a blocking command.
    When it is missing: a worker on the Redis fast path raises AttributeError when it connects.

The parameter ``redis_connect_func`` of connections, `Connection.on_connect`, `next_health_check`,
`health_check_interval` and `socket_timeout`
    For: hearing sooner of a results' Redis that accepts connections and never answers.
    When it is missing: ``delay()`` and ``get()`` raise TypeError or AttributeError where they connect.

`Connection.can_read`, ``send_command``, ``pack_commands``, ``send_packed_command``, ``read_response``
    For: writing many commands at once, and reading the answers when they come.
    When it is missing: a worker on the Redis fast path raises an error when it connects.

`Connection.send_command` and ``send_packed_command``, their argument ``check_health``
    For: no PING in between, whose answer would be waited for.
    When it is missing: a worker on the Redis fast path raises TypeError when it connects.

`Connection.read_response`, its argument ``push_request``
    For: reading a message that answers no command.
    When it is missing: a worker on the Redis fast path raises TypeError when it connects.

`Connection.read_response`, its argument ``disconnect_on_error``, and what else of `socket` a connection calls
    For: reading what has come of an answer, and the rest of it later: `PacedSocket` stands in for the socket.
    When it is missing: a worker with Redis raises TypeError or AttributeError when it reads.

`asyncio.Connection._reader`
    For: seeing that the server has closed a connection before commands are written to it.
    When it is missing: publishing or waiting for a result in an event loop raises AttributeError.

`asyncio.Connection._reader`, its ``feed_data``, and `asyncio.Connection._writer`, its ``transport``
    For: telling a connection on which something moves from one that stands still.
    When it is missing: publishing or waiting for a result in an event loop raises AttributeError.

`asyncio.Connection.connect`
    For: a deadline of connecting that is not that of answers.
    When it is missing: publishing or waiting for a result in an event loop raises AttributeError.

`ConnectionPool.connection_kwargs` and `connection_class`
    For: connections of an event loop that go where those of a pool without one go.
    When it is missing: sending from an event loop raises AttributeError.

The names of parameters that a pool adds for itself: `POOLS_OWN`
    For: leaving these out when a pool for an event loop is made.
    When it is missing: connections share the state of another pool, or making them raises TypeError.

`SentinelConnectionPool.service_name` and `sentinel_manager`, and of that `Sentinel.sentinels`,
`min_other_sentinels` and `sentinel_kwargs`
    For: connections of an event loop that ask the same sentinels.
    When it is missing: sending from an event loop with Sentinel raises AttributeError.

`Pipeline.command_stack`, `explicit_transaction` and `transaction`
    For: a pipeline whose commands go with the others of a turn of the loop.
    When it is missing: publishing several commands in an event loop raises AttributeError.

`Redis.response_callbacks`
    For: answers as redis-py returns them.
    When it is missing: publishing in an event loop raises AttributeError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeGuard

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.client
import redis.sentinel

if TYPE_CHECKING:
    from socket import socket

__all__ = (
    "POOLS_OWN",
    "BlockingConnection",
    "Command",
    "Connection",
    "LoopConnection",
    "LoopPool",
    "Pipeline",
    "SentinelSource",
    "WaitingConnection",
    "class_of_connections",
    "is_array",
    "is_transaction",
    "new_loop_pool",
    "new_loop_sentinel_pool",
    "on_invalidation",
    "parameters_of",
    "parse",
    "sentinel_source_of",
    "sentinels_of",
    "server_has_closed",
    "socket_of",
    "traffic_of",
)

Command = tuple[object, ...]
"""The name of a command and its arguments."""

POOLS_OWN: Final = ("connection_pool", "maint_notifications", "orig_", "himport_")
"""How the names of the parameters begin that a pool adds to those of its connections."""


# -- connections that block


class _Parser(Protocol):
    def set_invalidation_push_handler(self, handler: Callable[[object], object]) -> None: ...


class Connection(Protocol):
    """``redis.Connection``."""

    _sock: socket | None
    _parser: _Parser

    def send_command(self, *command: object, check_health: bool = True) -> None: ...
    def pack_commands(self, commands: Sequence[Command]) -> object: ...
    def send_packed_command(self, command: object, check_health: bool = True) -> None: ...
    def read_response(
        self, *, disconnect_on_error: bool = True, push_request: bool = False
    ) -> object: ...
    def can_read(self, timeout: float = 0) -> bool: ...
    def disconnect(self) -> None: ...


class BlockingConnection(Protocol):
    """``redis.Connection``, when it has just been connected."""

    socket_timeout: float | None
    health_check_interval: float
    next_health_check: float

    def on_connect(self) -> None: ...
    def disconnect(self) -> None: ...


if TYPE_CHECKING:

    class WaitingConnection:
        """``redis.Connection``, as a class to be put in front of any of its kinds overrides it."""

        socket_timeout: float | None
        socket_connect_timeout: float | None
        _sock: socket | None

        def connect(self) -> None: ...
        def disconnect(self) -> None: ...
        def send_packed_command(self, command: object, check_health: bool = True) -> None: ...
        def read_response(self, *args: object, **kwargs: object) -> object: ...
        def _connect(self) -> Any: ...

else:
    WaitingConnection = object


def socket_of(connection: Connection) -> socket | None:
    """The socket of a connection; None while it is not connected."""
    return connection._sock


def on_invalidation(connection: Connection, handler: Callable[[object], object]) -> None:
    """Have `handler` called when Redis tells that a key has changed that was read."""
    connection._parser.set_invalidation_push_handler(handler)


# -- connections of an event loop


class _Reader(Protocol):
    feed_data: Callable[[bytes], None]

    def at_eof(self) -> bool: ...


class _Transport(Protocol):
    def get_write_buffer_size(self) -> int: ...


class _Writer(Protocol):
    @property
    def transport(self) -> _Transport: ...


class LoopConnection(Protocol):
    """``redis.asyncio.Connection``."""

    _reader: _Reader | None
    _writer: _Writer | None

    @property
    def is_connected(self) -> bool: ...
    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    async def send_command(self, *command: object) -> None: ...
    async def send_packed_command(self, command: object) -> None: ...
    def pack_commands(self, commands: Sequence[Command]) -> object: ...
    async def read_response(
        self, *, disconnect_on_error: bool = True, push_request: bool = False
    ) -> object: ...


class LoopPool(Protocol):
    """``redis.asyncio.ConnectionPool``."""

    async def get_connection(self) -> LoopConnection: ...
    async def release(self, connection: LoopConnection) -> None: ...
    async def disconnect(self) -> None: ...


def server_has_closed(connection: LoopConnection) -> bool:
    """Whether the server has closed a connection that was connected."""
    if not connection.is_connected:
        return False
    reader = connection._reader
    return reader is None or reader.at_eof()


class _Counter:
    """Counts the bytes that a connection receives."""

    def __init__(self, feed: Callable[[bytes], None]) -> None:
        self.received = 0
        self.feed = feed

    def __call__(self, data: bytes) -> None:
        self.received += len(data)
        self.feed(data)


def traffic_of(connection: LoopConnection) -> tuple[int, int]:
    """Figures of a connection that change whenever bytes are received or sent, from the first call on."""
    reader, writer = connection._reader, connection._writer
    if reader is None or writer is None:
        return 0, 0
    counter: object = reader.feed_data
    if not isinstance(counter, _Counter):
        counter = reader.feed_data = _Counter(reader.feed_data)
    return counter.received, writer.transport.get_write_buffer_size()


# -- pools


class SentinelSource(NamedTuple):
    """Where a pool asks for the address of the server.

    Attributes:
        service_name: The name of the server.
        addresses: Hosts and ports of sentinels.
        min_other_sentinels: How many others a sentinel has to know.
        sentinel_kwargs: The parameters of connections to sentinels.
    """

    service_name: str
    addresses: list[tuple[str, int]]
    min_other_sentinels: int
    sentinel_kwargs: dict[str, Any]


def parameters_of(pool: Any) -> dict[str, Any]:
    """The parameters of the connections of a pool."""
    parameters: dict[str, Any] = pool.connection_kwargs
    return parameters


def class_of_connections(pool: Any) -> type:
    """The class of the connections of a pool."""
    found: type = pool.connection_class
    return found


def sentinel_source_of(pool: object) -> SentinelSource | None:
    """The sentinels that a pool asks, if it does."""
    if not isinstance(pool, redis.sentinel.SentinelConnectionPool):
        return None
    found: Any = pool
    manager = found.sentinel_manager
    known = [parameters_of(sentinel.connection_pool) for sentinel in manager.sentinels]
    return SentinelSource(
        found.service_name,
        [(parameters["host"], parameters["port"]) for parameters in known],
        manager.min_other_sentinels,
        manager.sentinel_kwargs,
    )


def new_loop_pool(kind: type, parameters: dict[str, Any]) -> LoopPool:
    """A pool of connections for an event loop."""
    make: Any = redis.asyncio.ConnectionPool
    pool: LoopPool = make(connection_class=kind, **parameters)
    return pool


def new_loop_sentinel_pool(
    source: SentinelSource, parameters: dict[str, Any], *, ssl: bool
) -> LoopPool:
    """As `new_loop_pool`, for a server that sentinels know."""
    make: Any = redis.asyncio.sentinel.SentinelConnectionPool
    make_sentinel: Any = redis.asyncio.sentinel.Sentinel
    sentinel = make_sentinel(
        source.addresses,
        min_other_sentinels=source.min_other_sentinels,
        sentinel_kwargs=source.sentinel_kwargs,
    )
    pool: LoopPool = make(source.service_name, sentinel, ssl=ssl, **parameters)
    return pool


def sentinels_of(pool: object) -> Sequence[redis.asyncio.Redis]:
    """The clients of the sentinels that a pool asks."""
    if not isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool):
        return ()
    found: Any = pool
    sentinels: Sequence[redis.asyncio.Redis] = found.sentinel_manager.sentinels
    return sentinels


# -- clients

if TYPE_CHECKING:

    class Pipeline(redis.client.Pipeline):
        """``redis.client.Pipeline``."""

        command_stack: list[tuple[Command, dict[str, Any]]]
        explicit_transaction: bool

else:
    Pipeline = redis.client.Pipeline


def parse(client: Any, answer: object, command: Command, options: dict[str, Any]) -> object:
    """The answer to a command, as a client of redis-py returns it."""
    callbacks: Mapping[object, Callable[..., object]] = client.response_callbacks
    callback = callbacks.get(command[0])
    if callback is None:
        return answer
    options.pop("keys", None)  # for redis-py's cache, which is not used here
    return callback(answer, **options)


def is_array(answer: object) -> TypeGuard[list[Any]]:
    """Whether an answer of Redis is an array."""
    return isinstance(answer, list)


def is_transaction(pipeline: Any) -> bool:
    """Whether the commands of a pipeline are to be executed all or not at all."""
    return bool(pipeline.transaction or pipeline.explicit_transaction)

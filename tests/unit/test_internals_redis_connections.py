"""What tomskit relies on in redis-py beyond its documentation: connections and their pools."""

import asyncio
import inspect
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.sentinel
from redis.client import Pipeline

from tests.support.contracts import assert_accepts, assert_has, untyped
from tomskit.celery._internals.redis_connections import (
    POOLS_OWN,
    class_of_connections,
    is_array,
    is_transaction,
    new_loop_pool,
    new_loop_sentinel_pool,
    on_invalidation,
    parameters_of,
    parse,
    sentinel_source_of,
    sentinels_of,
    server_has_closed,
    socket_of,
    traffic_of,
)
from tomskit.celery.fast_redis.loop_pool import loop_pool

CLASSES = (redis.Connection, redis.SSLConnection, redis.UnixDomainSocketConnection)
LOOP_CLASSES = (
    redis.asyncio.Connection,
    redis.asyncio.SSLConnection,
    redis.asyncio.UnixDomainSocketConnection,
)


class Server:
    """A socket that takes one connection, to be written to by a test."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def accept(self) -> socket.socket:
        return self._listening.accept()[0]

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def _connect(server: Server) -> tuple[Any, socket.socket]:
    connection = untyped(redis).Connection(host="127.0.0.1", port=server.port, protocol=3)
    # The server does not answer the commands with which redis-py connects.
    connection._sock = connection._connect()
    connection.set_parser(untyped(redis).connection._RESP3Parser)
    connection._parser.on_connect(connection)
    return connection, server.accept()


@pytest.mark.parametrize("kind", CLASSES)
def test_a_connection_reads_its_time_outs_when_it_connects(kind: Any) -> None:
    """``Connection.socket_timeout`` and ``socket_connect_timeout``: `_connect` reads them, not a copy."""
    connection = kind(socket_timeout=3.0, socket_connect_timeout=2.0)
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (3.0, 2.0)
    connection.socket_timeout, connection.socket_connect_timeout = 1.0, 0.5
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (1.0, 0.5)
    plain = redis.Connection if kind is redis.SSLConnection else kind
    assert {"socket_timeout", "socket_connect_timeout"} <= {*plain._connect.__code__.co_names}


def test_a_connection_has_its_socket(server: Server) -> None:
    """``Connection._sock``: None until it is connected, and another one afterwards."""
    connection = untyped(redis).Connection(host="127.0.0.1", port=server.port)
    assert_has(connection, "_sock")
    assert socket_of(connection) is None
    connected, peer = _connect(server)
    assert isinstance(socket_of(connected), socket.socket)
    connected.disconnect()
    assert socket_of(connected) is None
    peer.close()


def test_answers_are_read_one_by_one(server: Server) -> None:
    """``can_read``, ``send_command``, ``pack_commands``, ``send_packed_command``, ``read_response``."""
    connection, peer = _connect(server)
    assert not connection.can_read(0)
    connection.send_packed_command(connection.pack_commands([("PING",), ("ECHO", "x")]))
    assert peer.recv(1000) == b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n"
    connection.send_command("PING")
    assert peer.recv(1000) == b"*1\r\n$4\r\nPING\r\n"
    peer.sendall(b"+PONG\r\n$1\r\nx\r\n")
    assert connection.read_response() == b"PONG"
    assert connection.can_read(0), "can_read does not look at what was read before"
    assert connection.read_response() == b"x"
    assert not connection.can_read(0)
    connection.disconnect()
    peer.close()


def test_a_change_is_announced_to_the_handler(server: Server) -> None:
    """``Connection._parser``, its ``set_invalidation_push_handler``, and ``push_request``."""
    connection, peer = _connect(server)
    assert_has(connection, "_parser")
    assert_has(connection._parser, "set_invalidation_push_handler")
    heard: list[object] = []
    on_invalidation(connection, heard.append)
    peer.sendall(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$6\r\ncelery\r\n")
    connection.read_response(push_request=True)
    assert len(heard) == 1
    peer.sendall(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$6\r\ncelery\r\n+PONG\r\n")
    assert connection.read_response() == b"PONG", "an announcement is taken for an answer"
    assert len(heard) == 2
    connection.disconnect()
    peer.close()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_connections_can_be_called_as_we_do(kind: type) -> None:
    """``Connection.connect`` and others, of all kinds of connections."""
    assert_accepts(kind, "connect", None)
    assert_accepts(kind, "can_read", None, 0)
    assert_accepts(kind, "can_read", None)
    assert_accepts(kind, "_connect", None)
    assert_accepts(kind, "send_command", None, "CLIENT", "TRACKING", check_health=False)
    assert_accepts(kind, "send_packed_command", None, [b""], check_health=False)
    assert_accepts(kind, "pack_commands", None, [("PING",)])
    assert_accepts(kind, "read_response", None, push_request=True)
    assert_accepts(kind, "disconnect", None)


@pytest.mark.parametrize("kind", LOOP_CLASSES, ids=lambda kind: kind.__name__)
def test_connections_of_a_loop_can_be_called_as_we_do(kind: type) -> None:
    """``asyncio.Connection``, its ``connect`` and others."""
    assert_accepts(kind, "connect", None)
    assert_accepts(kind, "send_command", None, "PING")
    assert_accepts(kind, "send_packed_command", None, [b""])
    assert_accepts(kind, "pack_commands", None, [("PING",)])
    assert_accepts(kind, "read_response", None, disconnect_on_error=False, push_request=True)
    assert_accepts(kind, "disconnect", None, nowait=True)
    assert_has(kind, "is_connected")


def test_a_connection_of_a_loop_knows_when_the_server_has_closed_it(server: Server) -> None:
    """``asyncio.Connection._reader``."""

    async def connect() -> list[bool]:
        connection: Any = redis.asyncio.Connection(host="127.0.0.1", port=server.port)
        assert_has(connection, "_reader")
        found = [server_has_closed(connection)]
        await connection._connect()
        found.append(server_has_closed(connection))
        server.accept().close()
        async with asyncio.timeout(10):
            while not server_has_closed(connection):  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.01)
        found.append(server_has_closed(connection))
        await connection.disconnect(nowait=True)
        return found

    assert asyncio.run(connect()) == [False, False, True]


def test_a_pool_has_the_parameters_and_the_class_of_its_connections() -> None:
    """``ConnectionPool.connection_kwargs`` and ``ConnectionPool.connection_class``."""
    pool = redis.ConnectionPool(host="host", db=3, socket_timeout=7)
    assert_has(pool, "connection_kwargs", "connection_class")
    assert {"host": "host", "db": 3, "socket_timeout": 7}.items() <= parameters_of(pool).items()
    assert class_of_connections(pool) is redis.Connection


def test_what_a_pool_adds_for_itself_is_known() -> None:
    """``POOLS_OWN``: all other parameters are the user's, or are taken by no connection of a loop."""
    pool = redis.ConnectionPool(host="host", db=3)
    given = {"host", "db"}
    taken: set[str] = set()
    for base in redis.asyncio.Connection.__mro__:
        if "__init__" in vars(base):
            init: Any = vars(base)["__init__"]
            taken.update(inspect.signature(init).parameters)
    added = set(parameters_of(pool)) - given
    shared = {name for name in added & taken if not name.startswith(POOLS_OWN)}
    assert shared <= {"event_dispatcher", "host", "protocol"}, (
        f"a pool adds {', '.join(sorted(shared))} to the parameters of its connections: those that "
        "belong to the pool are to be in POOLS_OWN of redis_connections.py"
    )


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_pool_for_a_loop_is_made_of_any_pool(kind: type[Any]) -> None:
    """``new_loop_pool``: its connections can be made with these parameters."""
    make_pool: Any = redis.ConnectionPool
    path = {"path": "/tmp/x"} if kind is redis.UnixDomainSocketConnection else {"host": "host"}
    made: Any = loop_pool(make_pool(connection_class=kind, db=3, **path))
    connection = made.make_connection()
    assert isinstance(connection, LOOP_CLASSES)
    assert connection.db == 3
    assert untyped(new_loop_pool(type(connection), {"db": 4})).make_connection().db == 4


def test_a_pool_of_sentinel_knows_its_sentinels() -> None:
    """``service_name``, ``sentinel_manager``, ``sentinels``, ``min_other_sentinels``, and kwargs."""
    make_sentinel: Any = redis.sentinel.Sentinel
    manager = make_sentinel(
        [("one", 1), ("two", 2)], min_other_sentinels=1, sentinel_kwargs={"password": "x"}
    )
    make_pool: Any = redis.sentinel.SentinelConnectionPool
    pool = make_pool("name", manager)
    assert_has(pool, "service_name", "sentinel_manager")
    assert_has(manager, "sentinels", "min_other_sentinels", "sentinel_kwargs")
    source: Any = sentinel_source_of(pool)
    assert source == ("name", [("one", 1), ("two", 2)], 1, {"password": "x"})
    assert sentinel_source_of(redis.ConnectionPool()) is None

    async def close() -> int:
        made = new_loop_sentinel_pool(source, {}, ssl=False)
        for sentinel in sentinels_of(made):
            await sentinel.aclose()
        return len(sentinels_of(made))

    assert asyncio.run(close()) == 2
    assert sentinels_of(untyped(redis.asyncio.ConnectionPool)()) == ()


def test_a_pipeline_keeps_its_commands_and_whether_it_is_a_transaction() -> None:
    """``Pipeline.command_stack``, ``Pipeline.explicit_transaction``, ``Pipeline.transaction``."""
    client: Any = redis.Redis()
    pipeline = client.pipeline(transaction=False)
    assert_has(pipeline, "command_stack", "explicit_transaction", "transaction")
    pipeline.set("key", "value")
    assert [args for args, _ in pipeline.command_stack] == [("SET", "key", "value")]
    assert not is_transaction(pipeline)
    assert is_transaction(client.pipeline())
    pipeline.reset()
    pipeline.watch_key, pipeline.watching = "key", True
    pipeline.multi()
    assert is_transaction(pipeline), "multi() sets something else than explicit_transaction"


def test_a_pipeline_is_made_as_redis_py_makes_it() -> None:
    client = redis.Redis()
    made = Pipeline(client.connection_pool, client.response_callbacks, True, None)
    assert isinstance(made, Pipeline)


def test_a_client_makes_its_answers_by_callbacks() -> None:
    """``Redis.response_callbacks``."""
    client = redis.Redis()
    assert_has(client, "response_callbacks")
    assert parse(client, b"OK", ("SET", "key", "value"), {}) is True
    assert parse(client, b"value", ("GET", "key"), {"keys": ["key"]}) == b"value"
    assert parse(client, 1, ("NO", "such"), {}) == 1


def test_an_array_is_a_list() -> None:
    assert is_array([1])
    assert not is_array(b"1")


def test_what_moves_on_a_connection_of_a_loop_is_counted(server: Server) -> None:
    """``asyncio.Connection._reader``, its ``feed_data``, and ``_writer``, its ``transport``."""

    async def connect() -> list[tuple[int, int]]:
        connection: Any = redis.asyncio.Connection(host="127.0.0.1", port=server.port)
        assert_has(connection, "_reader", "_writer")
        found = [traffic_of(connection)]
        await connection._connect()
        peer = server.accept()
        found.append(traffic_of(connection))
        peer.sendall(b"+PONG\r\n")
        assert await connection._reader.readline() == b"+PONG\r\n"
        found.append(traffic_of(connection))
        connection._writer.transport.pause_reading()
        connection._writer.write(b"x" * (1 << 23))
        found.append(traffic_of(connection))
        peer.close()
        await connection.disconnect(nowait=True)
        return found

    *read, written = asyncio.run(connect())
    assert read == [(0, 0), (0, 0), (7, 0)]
    assert written[0] == 7
    assert written[1] > 0


@pytest.mark.parametrize("kind", CLASSES)
def test_what_a_new_connection_does_first_can_be_replaced(kind: Any) -> None:
    """The parameter ``redis_connect_func``, which is given the connection.

    That has ``on_connect``, `next_health_check` and `health_check_interval`.
    """
    given: list[Any] = []
    connection = kind(redis_connect_func=given.append, health_check_interval=30, socket_timeout=2)
    ours, theirs = socket.socketpair()
    connection._connect = lambda: ours
    try:
        connection.connect()
        assert given == [connection]
        assert_has(connection, "next_health_check", "on_connect", "disconnect")
        assert (connection.health_check_interval, connection.socket_timeout) == (30, 2)
    finally:
        connection.disconnect()
        theirs.close()


def test_a_connection_that_was_checked_is_not_asked_again(server: Server) -> None:
    """`next_health_check`: without it the first command would be a PING with retries of its own."""

    def connected(connection: Any) -> None:
        connection.next_health_check = float("inf")

    kind: Any = redis.Connection
    connection = kind(
        host="127.0.0.1",
        port=server.port,
        health_check_interval=30,
        redis_connect_func=connected,
    )
    connection.connect()
    accepted = server.accept()
    try:
        connection.send_command("ECHO", "x")
        assert b"PING" not in accepted.recv(1000)
    finally:
        connection.disconnect()
        accepted.close()

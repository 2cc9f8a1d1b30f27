"""The servers and the proxy that other tests make outages with."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest
from kombu import Connection

from tests.integration.conftest import TIMEOUT, eventually
from tests.support.proxy import TcpProxy
from tests.support.rabbitmq import RabbitMQServer, rabbitmq_missing
from tests.support.servers import RedisServer, free_port

PING = b"PING\r\n"
PONG = b"+PONG\r\n"
A_WHILE = 0.2
"""Seconds in which an answer would come."""


def test_a_message_goes_through_rabbitmq(rabbitmq_server: RabbitMQServer) -> None:
    name = uuid4().hex

    put(rabbitmq_server, name, {"number": 7})

    assert take(rabbitmq_server, name) == {"number": 7}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_persistent_message_outlives_a_restart(
    rabbitmq_server: RabbitMQServer, end: Literal["stop", "kill"]
) -> None:
    url, name = rabbitmq_server.url, uuid4().hex
    put(rabbitmq_server, name, "kept")

    if end == "stop":
        rabbitmq_server.stop()
    else:
        rabbitmq_server.kill()
    rabbitmq_server.start()

    assert rabbitmq_server.url == url
    assert take(rabbitmq_server, name) == "kept"


def test_rabbitmq_leaves_nothing_behind() -> None:
    missing = rabbitmq_missing()
    if missing is not None:
        pytest.skip(missing)
    others = descendants()

    with RabbitMQServer() as server:
        folder, address = server.folder, (server.host, server.port)
        started = descendants() - others
        assert server.pid in started

    assert not started & living_processes().keys()
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[TcpProxy]:
    with TcpProxy(redis_server.host, redis_server.port) as proxy:
        yield proxy


def test_the_proxy_forwards_both_ways(redis_server: RedisServer, proxy: TcpProxy) -> None:
    big = b"x" * 10_000_000  # more than the buffers of all sockets on the way

    with connect(proxy) as client:
        client.sendall(b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(big), big))
        answer = client.makefile("rb")
        with answer:
            assert answer.readline() == b"$%d\r\n" % len(big)
            assert answer.read(len(big)) == big


def test_the_proxy_passes_on_that_a_client_has_no_more_to_say(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        client.sendall(PING)
        client.shutdown(socket.SHUT_WR)

        assert client.recv(100) == PONG
        assert client.recv(100) == b""
    assert proxy.connections() == 0


def test_a_server_that_is_down_is_a_connection_that_ends() -> None:
    with TcpProxy("127.0.0.1", free_port()) as proxy, connect(proxy) as client:
        assert is_closed(client)


def test_cut_ends_connections_and_refuses_new_ones(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        assert answers(client)

        proxy.cut()

        assert proxy.connections() == 0
        assert is_closed(client)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)


def test_hang_answers_neither_old_connections_nor_new_ones(proxy: TcpProxy) -> None:
    with connect(proxy) as old:
        assert answers(old)

        proxy.hang()

        with connect(proxy) as new:
            old.sendall(PING)
            new.sendall(PING)
            assert is_silent(old)
            assert is_silent(new)


def test_hang_keeps_back_an_answer_until_restore(
    redis_server: RedisServer, proxy: TcpProxy
) -> None:
    key = uuid4().hex
    with connect(proxy) as client:
        client.sendall(f"BLPOP {key} 0\r\n".encode())
        eventually(lambda: any("b" in fields["flags"] for fields in redis_server.clients()))
        proxy.hang()

        with redis_server.client() as other:
            other.lpush(key, "value")

        assert is_silent(client)
        proxy.restore()
        assert client.recv(100).endswith(b"value\r\n")


def test_restore_ends_a_cut(proxy: TcpProxy) -> None:
    port = proxy.port
    proxy.cut()

    proxy.restore()

    assert proxy.port == port
    with connect(proxy) as client:
        assert answers(client)


def test_restore_ends_a_hang(proxy: TcpProxy) -> None:
    with connect(proxy) as old:
        assert answers(old)
        proxy.hang()
        old.sendall(PING)
        with connect(proxy) as new:
            proxy.restore()

            assert old.recv(100) == PONG
            assert is_closed(new)
        with connect(proxy) as later:
            assert answers(later)


def test_nobody_takes_the_port_during_a_cut(proxy: TcpProxy) -> None:
    proxy.cut()

    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((proxy.host, proxy.port))


def test_hang_after_cut_accepts_again(proxy: TcpProxy) -> None:
    proxy.cut()

    proxy.hang()

    with connect(proxy) as client:
        client.sendall(PING)
        assert is_silent(client)


def test_the_proxy_leaves_nothing_behind(redis_server: RedisServer) -> None:
    before = open_sockets()

    with TcpProxy(redis_server.host, redis_server.port) as proxy:
        clients = [connect(proxy) for _ in range(3)]
        assert all(answers(client) for client in clients)
    for client in clients:
        assert is_closed(client)
        client.close()

    assert "tcp-proxy" not in [thread.name for thread in threading.enumerate()]
    assert not open_sockets() - before
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


def put(server: RabbitMQServer, name: str, message: object) -> None:
    # Until the broker has confirmed it, a message may be lost.
    options = {"confirm_publish": True}
    with (
        Connection(server.url, transport_options=options) as connection,
        connection.SimpleQueue(name) as queue,
    ):
        queue.put(message)


def take(server: RabbitMQServer, name: str) -> object:
    with Connection(server.url) as connection, connection.SimpleQueue(name) as queue:
        message = queue.get(timeout=10)
        message.ack()
        return message.payload


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=TIMEOUT)


def answers(client: socket.socket) -> bool:
    client.sendall(PING)
    return client.recv(100) == PONG


def is_silent(client: socket.socket) -> bool:
    client.settimeout(A_WHILE)
    try:
        client.recv(100)
    except TimeoutError:
        return True
    finally:
        client.settimeout(TIMEOUT)
    return False


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


def open_sockets() -> set[str]:
    found: set[str] = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this folder itself
            found.add(str(path.readlink()))
    return {name for name in found if name.startswith("socket:")}


def living_processes() -> dict[int, int]:
    """The parent of every process that has not ended."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it ended meanwhile
        state, parent = stat.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            parents[int(path.parent.name)] = int(parent)
    return parents


def descendants() -> set[int]:
    """The processes that this one has started, and those that they have started."""
    parents = living_processes()
    found: set[int] = set()
    generation = {os.getpid()}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation}
        found |= generation
    return found

"""The proxy of the tests of faults: what it forwards, and what it does not any more."""

import gc
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.support.patience import patience
from tests.support.proxy import Proxy


@pytest.fixture
def echoes() -> Iterator[int]:
    """A server that sends back what it is sent; its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


@pytest.fixture
def proxy(echoes: int) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echoes) as made:
        yield made


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> "list[sys.UnraisableHookArgs]":
    """Errors and warnings of objects that were collected."""
    found: list[sys.UnraisableHookArgs] = []
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    return found


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=patience(5))


def echo(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return received(connection, len(data))


def received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += connection.recv(count - len(data))
    return data


def assert_silent(connection: socket.socket) -> None:
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(1)


def test_a_frozen_connection_is_silent_and_a_new_one_passes(proxy: Proxy) -> None:
    with connect(proxy) as old:
        assert echo(old, b"before") == b"before"
        proxy.freeze()
        old.sendall(b"after")
        with connect(proxy) as new:
            assert echo(new, b"new") == b"new"
        assert_silent(old)


def test_a_silent_proxy_accepts_and_answers_nothing(proxy: Proxy) -> None:
    proxy.accept_silently()
    with connect(proxy) as connection:
        connection.sendall(b"hello")
        assert_silent(connection)
    proxy.heal()
    with connect(proxy) as connection:
        assert echo(connection, b"hello") == b"hello"


def test_an_answer_is_cut_in_its_middle(proxy: Proxy) -> None:
    proxy.cut_after(4)
    with connect(proxy) as connection:
        connection.sendall(b"answer")
        assert received(connection, 4) == b"answ"
        assert_silent(connection)
    assert proxy.has_cut


def test_answers_come_slowly(proxy: Proxy) -> None:
    proxy.slow_down(10)
    with connect(proxy) as connection:
        connection.sendall(b"0123456789" * 100)
        first = connection.recv(1 << 16)
        assert 0 < len(first) < 1000


def test_connections_are_closed_and_refused(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        echo(connection, b"x")
        proxy.kill()
        assert connection.recv(1) == b""
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as connection:
        assert echo(connection, b"x") == b"x"


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_request_and_its_connection_are_lost_once(proxy: Proxy, is_answered: bool) -> None:
    with connect(proxy) as first, connect(proxy) as second:
        assert echo(first, b"before") == b"before"
        proxy.lose(b"COMMIT", is_answered=is_answered)
        assert echo(second, b"other") == b"other"
        has_lost = [proxy.has_lost]
        first.sendall(b"a COMMIT")
        assert first.recv(100) == b""
        has_lost.append(proxy.has_lost)
        assert has_lost == [False, True]
        assert echo(second, b"COMMIT") == b"COMMIT"


def test_a_connection_is_frozen_at_a_request(proxy: Proxy) -> None:
    with connect(proxy) as first, connect(proxy) as second:
        proxy.freeze_at(b"COMMIT")
        first.sendall(b"COMMIT")
        assert_silent(first)
        assert echo(second, b"COMMIT") == b"COMMIT"


def test_requests_are_replaced_by_ones_that_redis_answers_with_an_error(proxy: Proxy) -> None:
    """The server of this test sends back what it is given."""
    ping, push = b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$5\r\nLPUSH\r\n$1\r\nk\r\n"
    multi, execute = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"
    proxy.answer("BUSY now", b"LPUSH")

    with socket.create_connection((proxy.host, proxy.port), patience(10)) as connection:
        answers = connection.makefile("rb")
        connection.sendall(ping[:5])
        connection.sendall(ping[5:] + push + multi + ping + execute)
        assert answers.read(len(ping)) == ping
        refused = b"*4\r\n$4\r\nEVAL\r\n$33\r\nreturn redis.error_reply(ARGV[1])\r\n$1\r\n0\r\n$8\r\nBUSY now\r\n"
        assert answers.read(len(refused)) == refused
        untouched = multi + ping + execute
        assert answers.read(len(untouched)) == untouched

        connection.sendall(multi + push + execute + ping)
        received = b""
        while not received.endswith(ping):
            received += answers.readline()
        assert received.count(b"EVAL") == 3
        assert refused in received
        assert b"EXECABORT" in received

        proxy.heal()
        connection.sendall(push)
        assert answers.read(len(push)) == push


def test_a_proxy_that_ends_leaves_no_connection_open(
    echoes: int, unraisable: "list[sys.UnraisableHookArgs]"
) -> None:
    for count in range(20):
        with ExitStack() as connections:
            with Proxy("127.0.0.1", echoes) as proxy:
                if count % 3 == 0:
                    proxy.accept_silently()
                for _ in range(5):
                    connections.enter_context(connect(proxy)).sendall(b"hello")
            # It may have accepted them just now, and their way to the server is not made yet.
            gc.collect()

    assert unraisable == []

"""PacedSocket and Reading: answers are read as they come, and none is waited for that hardly comes."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pytest
import redis
from redis.exceptions import ResponseError
from typing_extensions import override

from tests.support.patience import wait_until
from tomskit.celery.fast_redis.connections import AwayConnection
from tomskit.celery.fast_redis.sockets import NOT_YET, PacedSocket, Reading

FOR_EVER = 3600.0
"""Seconds. A test that waited so long would fail."""
LONG = b"x" * 200_000


class _Connection(AwayConnection, redis.Connection):  # type: ignore[misc]  # they share names, as at run time
    """One that is connected to a socket of the test."""

    other: socket.socket

    @override
    def _connect(self) -> Any:
        mine, self.other = socket.socketpair()
        mine.settimeout(cast("Any", self).socket_timeout)
        return self._paced(mine)


@dataclass
class Peer:
    """A connection, and the server's side of it."""

    connection: Any
    other: socket.socket


def begin(connection: Any) -> None:
    connection._parser.on_connect(connection)


def connected(timeout: float | None) -> Peer:
    kind = cast("Any", _Connection)
    connection = kind(
        socket_timeout=timeout,
        protocol=3,
        # Nothing is sent.
        redis_connect_func=begin,
    )
    connection.connect()
    return Peer(connection, connection.other)


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = connected(FOR_EVER)
    yield made
    made.connection.disconnect()
    made.other.close()


def test_an_answer_is_read_as_it_comes(peer: Peer) -> None:
    reading = Reading(peer.connection)
    answer = b"*2\r\n$3\r\none\r\n$%d\r\n%b\r\n" % (len(LONG), LONG)

    for begin in range(0, 100_000, 20_000):
        peer.other.sendall(answer[begin : begin + 20_000])
        assert reading.read(is_push=False) is NOT_YET
        assert reading.is_under_way
    peer.other.sendall(answer[100_000:])

    assert reading.read(is_push=False, until=time.monotonic() + FOR_EVER) == [b"one", LONG]
    assert not reading.is_under_way


def test_answers_are_read_one_after_the_other(peer: Peer) -> None:
    reading = Reading(peer.connection)

    peer.other.sendall(b":1\r\n-ERR no\r\n>2\r\n$4\r\nnews\r\n:3\r\n")

    assert reading.read(is_push=False) == 1
    assert isinstance(reading.read(is_push=False), ResponseError)
    assert reading.read(is_push=True) == [b"news", 3]
    assert reading.read(is_push=False) is NOT_YET


def test_commands_are_sent_in_the_middle_of_an_answer(peer: Peer) -> None:
    reading = Reading(peer.connection)
    peer.other.sendall(b"$5\r\nhe")
    assert reading.read(is_push=False) is NOT_YET

    peer.connection.send_command("PING", check_health=False)

    assert b"PING" in peer.other.recv(100)
    peer.other.sendall(b"llo\r\n")
    assert reading.read(is_push=False) == b"hello"


def test_closing_a_connection_ends_what_is_read(peer: Peer) -> None:
    reading = Reading(peer.connection)
    peer.other.sendall(b"$5\r\nhe")
    assert reading.read(is_push=False) is NOT_YET

    peer.connection.disconnect()
    assert reading.dead

    # The same object, with another socket.
    peer.connection.connect()
    other = peer.connection.other
    other.sendall(b":7\r\n")
    assert Reading(peer.connection).read(is_push=False) == 7
    other.close()


def test_another_thread_may_close_it(peer: Peer) -> None:
    reading = Reading(peer.connection)
    peer.other.sendall(b"$5\r\nhe")
    assert reading.read(is_push=False) is NOT_YET

    thread = threading.Thread(target=peer.connection.disconnect)
    thread.start()
    thread.join()

    peer.connection.connect()
    del reading
    assert peer.connection.is_connected
    peer.connection.other.close()


def test_another_thread_goes_on_with_a_reading_of_its_own(peer: Peer) -> None:
    reading = Reading(peer.connection)
    peer.other.sendall(b":1\r\n:2\r\n")
    assert reading.read(is_push=False) == 1
    assert reading.can_go_on(peer.connection)
    found: list[object] = []

    def read() -> None:
        found.append(reading.can_go_on(peer.connection))
        found.append(Reading(peer.connection).read(is_push=False))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()

    assert found == [False, 2]


def test_the_end_of_a_connection_is_raised(peer: Peer) -> None:
    reading = Reading(peer.connection)
    peer.other.sendall(b"$5\r\nhe")
    assert reading.read(is_push=False) is NOT_YET

    peer.other.close()

    with pytest.raises(redis.ConnectionError):
        reading.read(is_push=False)
    assert reading.dead


def test_an_answer_that_stands_still_is_known(peer: Peer) -> None:
    slow = connected(0.2)
    for one in (peer, slow):
        one.other.sendall(b"$5\r\nhe")
        assert Reading(one.connection).read(is_push=False) is NOT_YET

    used: PacedSocket = slow.connection._sock
    wait_until(used.stands_still, 10, "it is known")
    assert not peer.connection._sock.stands_still()
    slow.connection.disconnect()
    slow.other.close()


@pytest.mark.parametrize("way", ["reading", "sending"])
def test_a_byte_now_and_then_is_silence(way: str) -> None:
    peer = connected(0.5)
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.05):
            if way == "reading":
                peer.other.send(b"1")
            else:
                peer.other.recv(10)

    peer.other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    peer.other.send(b"$1000000\r\n")
    thread = threading.Thread(target=drip)
    thread.start()
    wait = {
        "reading": peer.connection.read_response,
        "sending": partial(peer.connection.send_packed_command, [b"x" * 10_000_000], False),
    }
    try:
        with pytest.raises(redis.TimeoutError):
            wait[way]()
    finally:
        ended.set()
        thread.join()
        peer.connection.disconnect()
        peer.other.close()

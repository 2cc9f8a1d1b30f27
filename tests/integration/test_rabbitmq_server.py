"""The RabbitMQ that other tests make outages with."""

import os
import socket
from pathlib import Path
from uuid import uuid4

import pytest
from kombu import Connection

from tests.support.patience import patience
from tests.support.servers.rabbitmq import RabbitMQServer, rabbitmq_missing


def test_messages_outlive_a_crash_and_nothing_is_left_at_the_end() -> None:
    missing = rabbitmq_missing()
    if missing is not None:
        pytest.skip(missing)
    others = descendants()

    with RabbitMQServer() as server:
        folder, url, address = server.folder, server.url, (server.host, server.port)
        name = uuid4().hex
        put(server, name, "kept")
        server.kill()
        assert not (descendants() - others) & living_processes().keys()
        server.start()
        started = descendants() - others

        assert server.pid in started
        assert server.url == url
        assert take(server, name) == "kept"

    assert not started & living_processes().keys()
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


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
        message = queue.get(timeout=patience(10))
        message.ack()
        return message.payload


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

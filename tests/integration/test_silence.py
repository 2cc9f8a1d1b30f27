"""What a worker that stops waits for when its broker has gone silent: once, and not for each connection."""

import re
import signal
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import redis
from celery import Celery
from celery.worker import state

from tests.support.deployment import TIMEOUT as TIMEOUT_OF_TASKS
from tests.support.deployment import Deployment
from tests.support.faults import faults
from tests.support.patience import wait_until
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tests.support.workers import Pool
from tomskit.celery._worker.heartbeats import send_heartbeats_once
from tomskit.celery.fast_redis.connections import AwayConnection

TIMEOUT = 1.0
FOR_EVER = 3600.0
"""Seconds. A test that waited so long would fail."""

FOUND = "The broker has not answered for .* while the worker stops"
WITHOUT = "The broker does not answer on new connections either"


class _Connection(AwayConnection, redis.Connection):  # type: ignore[misc]  # they share names, as at run time
    pass


Connect = Callable[[float], Any]


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.host, redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Connect]:
    made: list[Any] = []
    kind = cast("Any", _Connection)

    def connect(timeout: float) -> Any:
        made.append(
            kind(
                host=proxy.host,
                port=proxy.port,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
            )
        )
        made[-1].connect()
        return made[-1]

    yield connect
    for connection in made:
        connection.disconnect()


def ping(connection: Any) -> object:
    connection.send_command("PING")
    return connection.read_response()


def test_the_connections_of_a_worker_that_stops_are_given_up_together(
    proxy: Proxy, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, waiting = connect(TIMEOUT), connect(FOR_EVER), connect(FOR_EVER)
    proxy.freeze()
    waiting.send_command("PING")
    monkeypatch.setattr(state, "should_stop", 0)

    with pytest.raises(redis.TimeoutError):
        ping(first)
    with pytest.raises(redis.TimeoutError):
        waiting.read_response()

    # On a new connection.
    assert ping(second) == b"PONG"


def test_new_connections_have_some_seconds_in_all(
    proxy: Proxy, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = connect(TIMEOUT)
    proxy.accept_silently()
    proxy.freeze()
    monkeypatch.setattr(state, "should_stop", 0)
    with pytest.raises(redis.TimeoutError):
        ping(first)

    for _ in range(100):
        with pytest.raises(redis.TimeoutError):
            connect(FOR_EVER)


def test_a_worker_that_does_not_stop_waits_for_each(proxy: Proxy, connect: Connect) -> None:
    first, second = connect(TIMEOUT), connect(2 * TIMEOUT)
    proxy.freeze()
    with pytest.raises(redis.TimeoutError):
        ping(first)

    with pytest.raises(redis.TimeoutError):
        ping(second)
    assert second.socket_timeout == 2 * TIMEOUT


def test_the_next_worker_of_a_process_knows_nothing_of_it(
    proxy: Proxy, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = connect(TIMEOUT)
    proxy.accept_silently()
    proxy.freeze()
    with monkeypatch.context() as stopping:
        stopping.setattr(state, "should_stop", 0)
        for _ in range(3):
            with pytest.raises(redis.TimeoutError):
                ping(first)

    proxy.heal()

    assert ping(connect(FOR_EVER)) == b"PONG"


@pytest.mark.parametrize("new", ["pass", "silent"])
@pytest.mark.parametrize(
    ("pool", "fast"),
    [("asyncio", "true"), ("asyncio", "false"), ("prefork", "true"), ("threads", "true")],
)
def test_a_worker_that_stops_waits_once(
    deployment: Deployment, pool: Pool, fast: str, new: str
) -> None:
    # With connections for gossip, heartbeats and remote control.
    with faults(deployment, pool, 4, neighbours=True, CELERY_REDIS_FAST_PATH=fast) as place:
        sent = [place.send("late_when_free", "ended") for _ in range(3)]
        wait_until(lambda: all(one.state == "STARTED" for one in sent), 30, "the tasks run")
        if new == "silent":
            place.broker.accept_silently()
        place.broker.freeze()

        place.worker.send_signal(signal.SIGTERM)
        place.free()

        assert place.worker.wait(30) == 0
        assert place.count("ended") == 3
        text = place.worker.text
        assert len(_lines(text, FOUND)) == 1, text
        assert len(_lines(text, WITHOUT)) == (new == "silent"), text
        # What has ended is acknowledged on a new connection.
        assert place.held() == (3 if new == "silent" else 0)


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_a_worker_ends_though_its_heartbeat_cannot_be_sent(
    deployment: Deployment, pool: Pool
) -> None:
    with faults(deployment, pool, 1, neighbours=True, CELERY_REDIS_FAST_PATH="true") as place:
        assert place.send("add", 1, 2).get(timeout=TIMEOUT_OF_TASKS) == 3
        place.broker.accept_silently()
        before = place.broker.accepted
        place.broker.freeze()
        wait_until(lambda: place.broker.accepted > before, 60, "it tries another connection")

        place.worker.send_signal(signal.SIGTERM)

        assert place.worker.wait(30) == 0


def test_a_heartbeat_is_tried_once_whatever_celery_asks_for() -> None:
    app = Celery("heartbeats", broker="redis://127.0.0.1:1", set_as_current=False)
    send_heartbeats_once(app)
    with app.connection_for_write() as connection:
        dispatcher = app.events.Dispatcher(connection)
        # Celery's own never returns.
        dispatcher.send("worker-heartbeat", retry=True)
        assert len(dispatcher._outbound_buffer) == 1


def _lines(text: str, pattern: str) -> list[str]:
    return [line for line in text.splitlines() if re.search(pattern, line)]

"""Sending tasks and waiting for results on a network that goes silent, in a loop and in threads."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pytest
from celery import states
from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError

from tests.support.deployment import close_client
from tests.support.patience import patience, wait_until
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tests.support.settings import build
from tomskit.celery import AsyncCelery
from tomskit.celery._client.result import TypedResult
from tomskit.redis.away import ServerAwayError

# Celery calls what newer versions of redis-py have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

T = TypeVar("T")

SECONDS = 2.0
"""The timeout of sockets. A busy machine answers within it."""


@dataclass
class Place:
    """An app behind proxies, and a store and a queue as a worker sees them."""

    app: AsyncCelery
    server: RedisServer
    broker: Proxy
    results: Proxy
    worker: AsyncCelery

    def store(self, task_id: str, value: int) -> None:
        self.worker.backend.store_result(task_id, value, states.SUCCESS)

    def result(self, task_id: str) -> Any:
        return TypedResult[int](task_id, app=self.app)

    async def send(self) -> None:
        await self.app.async_client.send(lambda: self.app.send_task("nothing"))

    def queued(self) -> int:
        with self.server.client(0) as client:
            length: int = client.llen("celery")
            return length

    def subscribed(self, task_id: str) -> bool:
        key = cast("Any", self.worker.backend).get_key_for_task(task_id).decode()
        with self.server.client(0) as client:
            channels: list[str] = cast("Any", client).pubsub_channels()
            return key in channels

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async def main() -> T:
            async with asyncio.timeout(patience(60)):
                return await function()

        return asyncio.run(main())


@contextmanager
def _app(broker: tuple[str, int], results: tuple[str, int], **more: object) -> Generator[Any]:
    config = build(
        CELERY_BROKER_REDIS_HOST=broker[0],
        CELERY_BROKER_REDIS_PORT=broker[1],
        CELERY_RESULT_BACKEND_REDIS_HOST=results[0],
        CELERY_RESULT_BACKEND_REDIS_PORT=results[1],
        CELERY_BROKER_SOCKET_TIMEOUT=SECONDS,
        CELERY_BROKER_SOCKET_CONNECT_TIMEOUT=SECONDS,
        CELERY_RESULT_SOCKET_TIMEOUT=SECONDS,
        CELERY_RESULT_SOCKET_CONNECT_TIMEOUT=SECONDS,
        **more,
    )
    app = AsyncCelery("faults-client", config=config, set_as_current=False)
    try:
        yield app
    finally:
        close_client(app)


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def place(running: RedisServer) -> Iterator[Place]:
    running.flush()
    direct = (running.host, running.port)
    with (
        Proxy(*direct) as broker,
        Proxy(*direct) as results,
        _app((broker.host, broker.port), (results.host, results.port)) as app,
        _app(direct, direct) as worker,
    ):
        yield Place(app, running, broker, results, worker)


def test_a_connection_that_is_accepted_and_never_answered_is_given_up(place: Place) -> None:
    place.store("one", 1)
    place.store("other", 2)
    place.results.accept_silently()

    async def main() -> tuple[object, object, float]:
        waiting = asyncio.ensure_future(place.result("one").aget())
        await asyncio.to_thread(
            wait_until, lambda: place.results.accepted > 0, 30, "it tries to connect"
        )
        place.results.heal()
        first = await waiting
        begun = time.monotonic()
        return first, await place.result("other").aget(), time.monotonic() - begun

    first, second, seconds = place.run(main)

    assert (first, second) == (1, 2)
    assert seconds < SECONDS, "a later one has waited for the connection that is stuck"


def test_a_result_is_awaited_on_a_connection_that_has_gone_silent(place: Place) -> None:
    place.store("before", 0)

    async def main() -> tuple[object, object]:
        await place.result("before").aget()
        pending = asyncio.ensure_future(place.result("later").aget())
        await asyncio.to_thread(
            wait_until, lambda: place.subscribed("later"), 30, "it is subscribed to"
        )
        place.results.freeze()
        place.store("stored", 1)
        place.store("later", 2)
        return await place.result("stored").aget(), await pending

    assert place.run(main) == (1, 2)


def test_get_in_a_thread_survives_a_silent_connection(place: Place) -> None:
    place.store("before", 0)
    assert place.result("before").get(timeout=patience(10)) == 0

    async def main() -> tuple[object, object]:
        wait = patience(30)
        pending = asyncio.ensure_future(asyncio.to_thread(place.result("later").get, wait))
        await asyncio.to_thread(
            wait_until, lambda: place.subscribed("later"), 30, "it is subscribed to"
        )
        place.results.freeze()
        place.store("stored", 1)
        place.store("later", 2)
        return await asyncio.to_thread(place.result("stored").get, wait), await pending

    assert place.run(main) == (1, 2)


@pytest.mark.parametrize("fault", ["freeze", "accept_silently"])
def test_a_task_is_sent_on_a_connection_that_has_gone_silent(place: Place, fault: str) -> None:
    async def main() -> int:
        await place.send()
        place.broker.freeze()
        getattr(place.broker, fault)()
        sending = asyncio.ensure_future(place.send())
        if fault == "accept_silently":
            known = place.broker.accepted
            await asyncio.to_thread(
                wait_until, lambda: place.broker.accepted > known, 30, "it connects again"
            )
            place.broker.heal()
        await sending
        return place.queued()

    assert place.run(main) == 2


def test_a_store_that_never_answers_is_not_tried_again_and_again(place: Place) -> None:
    place.results.accept_silently()

    with pytest.raises(ServerAwayError, match="Results cannot be waited for"):
        place.result("one").get(timeout=1)

    # Each of them takes the whole timeout.
    assert place.results.accepted < 10


def test_a_broker_that_may_not_be_written_to_is_an_error_that_says_so(place: Place) -> None:
    client = cast("Any", place.server.client(0))
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(OperationalError, match="read only replica"):
            place.run(place.send)
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.close()


def test_a_wrong_password_of_the_results_is_raised_where_they_are_awaited() -> None:
    with RedisServer(password="right") as server:
        here = (server.host, server.port)
        password = {"CELERY_RESULT_BACKEND_REDIS_PASSWORD": "wrong"}
        with _app(here, here, **password) as app:
            result = TypedResult[int]("id", app=app)

            async def main() -> None:
                async with asyncio.timeout(patience(10)):
                    with pytest.raises(AuthenticationError, match="invalid username-password"):
                        await result.aget()

            asyncio.run(main())

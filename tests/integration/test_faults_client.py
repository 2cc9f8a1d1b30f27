"""Sending tasks and waiting for results on a network that goes silent, in a loop and in threads."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError

from tests.support.client_place import SECONDS, ClientPlace, client_of, client_place
from tests.support.patience import patience, wait_until
from tests.support.servers import RedisServer
from tomskit.celery._client.result import TypedResult

# Celery calls what newer versions of redis-py have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture
def place(running: RedisServer) -> Iterator[ClientPlace]:
    with client_place(running) as place:
        yield place


def test_a_connection_that_is_accepted_and_never_answered_is_given_up(place: ClientPlace) -> None:
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


def test_a_result_is_awaited_on_a_connection_that_has_gone_silent(place: ClientPlace) -> None:
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


def test_get_in_a_thread_survives_a_silent_connection(place: ClientPlace) -> None:
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
def test_a_task_is_sent_on_a_connection_that_has_gone_silent(
    place: ClientPlace, fault: str
) -> None:
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


def test_a_broker_that_may_not_be_written_to_is_an_error_that_says_so(place: ClientPlace) -> None:
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
        with client_of(here, here, **password) as app:
            result = TypedResult[int]("id", app=app)

            async def main() -> None:
                async with asyncio.timeout(patience(10)):
                    with pytest.raises(AuthenticationError, match="invalid username-password"):
                        await result.aget()

            asyncio.run(main())

"""Subscriptions: results that Redis announces to all who wait in an event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

import pytest
from celery import Celery, states
from kombu.exceptions import DecodeError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.deployment import close_client
from tests.support.patience import patience, wait_until
from tests.support.servers import RedisServer
from tomskit.celery._client.subscriptions import Subscriptions
from tomskit.celery._internals.celery_backend import is_redis_backend
from tomskit.redis.away import ServerAwayError

# Celery calls what newer versions of redis-py have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

T = TypeVar("T")

WAIT = 30.0
QUICK = {"max_retries": 40, "interval_start": 0.05, "interval_step": 0.05, "interval_max": 0.2}


class Store:
    """A result store, as a worker sees it, and those who wait for what it is given."""

    def __init__(self, server: RedisServer, app: Celery) -> None:
        self.server = server
        backend = app.backend
        assert is_redis_backend(backend)
        self.backend: Any = backend
        self.subscriptions = Subscriptions(backend)

    def put(self, task_id: str, result: object, state: str = states.SUCCESS) -> None:
        self.backend.store_result(task_id, result, state)

    async def arrived(self, future: asyncio.Future[dict[str, Any]]) -> tuple[object, object]:
        meta = await future
        return meta["status"], meta["result"]

    async def subscribed(self, *task_ids: str, times: int = 1) -> None:
        """Return when Redis has been told that somebody waits for these, or that nobody does."""
        keys = [self.backend.get_key_for_task(task_id).decode() for task_id in task_ids]

        def are_subscribed() -> bool:
            with self.server.client() as client:
                found: list[tuple[str, int]] = cast("Any", client).pubsub_numsub(*keys)
                return [number for _, number in found] == [times] * len(keys)

        await asyncio.to_thread(wait_until, are_subscribed, WAIT, "Redis knows who waits")


def listeners(server: RedisServer) -> list[dict[str, str]]:
    """Connections that are subscribed to something: the fields of CLIENT LIST."""
    with server.client() as client:
        return cast("list[dict[str, str]]", cast("Any", client).client_list(_type="pubsub"))


def run(
    server: RedisServer,
    function: Callable[[Store], Awaitable[T]],
    retry_policy: Mapping[str, float] | None = None,
) -> T:
    async def main() -> T:
        app = Celery(
            "client",
            backend=server.url(),
            set_as_current=False,
            result_backend_transport_options={"retry_policy": retry_policy or QUICK},
        )
        store = Store(server, app)
        try:
            async with asyncio.timeout(patience(60)):
                return await function(store)
        finally:
            await store.subscriptions.close()
            close_client(app)

    return asyncio.run(main())


# -- results


def test_a_result_that_is_there_already(own: RedisServer) -> None:
    async def main(store: Store) -> object:
        store.put("id", 42)
        return await store.arrived(store.subscriptions.subscribe("id"))

    assert run(own, main) == (states.SUCCESS, 42)


def test_a_result_that_comes_later(own: RedisServer) -> None:
    async def main(store: Store) -> object:
        future = store.subscriptions.subscribe("id")
        await store.subscribed("id")
        assert not future.done()
        store.put("id", 42)
        return await store.arrived(future)

    assert run(own, main) == (states.SUCCESS, 42)


def test_a_failure_is_an_end(own: RedisServer) -> None:
    async def main(store: Store) -> object:
        future = store.subscriptions.subscribe("id")
        store.put("id", LookupError("x"), states.FAILURE)
        return (await future)["status"]

    assert run(own, main) == states.FAILURE


def test_a_state_that_is_no_end_is_waited_through(own: RedisServer) -> None:
    async def main(store: Store) -> object:
        store.put("there", None, states.STARTED)
        futures = [store.subscriptions.subscribe(task_id) for task_id in ("there", "later")]
        await store.subscribed("there", "later")
        store.put("later", None, states.RETRY)
        # An answer to this comes after what was published before.
        store.put("mark", 1)
        await store.subscriptions.subscribe("mark")
        assert not any(future.done() for future in futures)
        store.put("there", 1)
        store.put("later", 2)
        return [await store.arrived(future) for future in futures]

    assert run(own, main) == [(states.SUCCESS, 1), (states.SUCCESS, 2)]


def test_results_of_many_tasks_come_on_one_connection(own: RedisServer) -> None:
    ids = [f"task {number}" for number in range(300)]

    async def main(store: Store) -> tuple[list[object], int]:
        futures = [store.subscriptions.subscribe(task_id) for task_id in ids]
        await store.subscribed(*ids)
        listening = len(listeners(own))
        for number, task_id in enumerate(ids):
            store.put(task_id, number)
        return [(await future)["result"] for future in futures], listening

    assert run(own, main) == (list(range(300)), 1)


def test_a_result_that_cannot_be_read_is_an_error_for_its_waiter(own: RedisServer) -> None:
    async def main(store: Store) -> object:
        with own.client() as client:
            client.set(store.backend.get_key_for_task("id"), "{no json")
        with pytest.raises(DecodeError):
            await store.subscriptions.subscribe("id")
        store.put("other", 1)
        return await store.arrived(store.subscriptions.subscribe("other"))

    assert run(own, main) == (states.SUCCESS, 1)


# -- waiters


def test_all_who_wait_for_a_task_get_its_result(own: RedisServer) -> None:
    async def main(store: Store) -> list[object]:
        futures = [store.subscriptions.subscribe("id") for _ in range(3)]
        await store.subscribed("id")
        store.put("id", 42)
        return [await store.arrived(future) for future in futures]

    assert run(own, main) == [(states.SUCCESS, 42)] * 3


def test_who_waits_no_longer_does_not_disturb_the_others(own: RedisServer) -> None:
    async def main(store: Store) -> object:
        first, second = (store.subscriptions.subscribe("id") for _ in range(2))
        await store.subscribed("id")
        store.subscriptions.unsubscribe("id", first)
        store.put("id", 42)
        assert first.cancelled()
        return await store.arrived(second)

    assert run(own, main) == (states.SUCCESS, 42)


def test_redis_is_told_when_nobody_waits_any_more(own: RedisServer) -> None:
    async def main(store: Store) -> None:
        future = store.subscriptions.subscribe("id")
        other = store.subscriptions.subscribe("other")
        await store.subscribed("id", "other")
        store.subscriptions.unsubscribe("id", future)
        await store.subscribed("id", times=0)
        await store.subscribed("other")
        assert not other.done()

    run(own, main)


def test_one_that_is_taken_back_at_once_is_never_told(own: RedisServer) -> None:
    async def main(store: Store) -> object:
        future = store.subscriptions.subscribe("id")
        store.subscriptions.unsubscribe("id", future)
        other = store.subscriptions.subscribe("other")
        await store.subscribed("other")
        await store.subscribed("id", times=0)
        store.put("other", 1)
        return await store.arrived(other)

    assert run(own, main) == (states.SUCCESS, 1)


def test_who_comes_late_gets_what_was_published_before(own: RedisServer) -> None:
    async def main(store: Store) -> list[object]:
        first = store.subscriptions.subscribe("id")
        await store.subscribed("id")
        # What Redis has confirmed before is read before an answer to this.
        store.put("mark", 1)
        await store.subscriptions.subscribe("mark")
        store.put("id", 42)
        found = [await store.arrived(first)]
        store.subscriptions.unsubscribe("id", first)
        # In the same turn: Redis has not been told that nobody waits any more.
        found.append(await store.arrived(store.subscriptions.subscribe("id")))
        return [*found]

    assert run(own, main) == [(states.SUCCESS, 42)] * 2


def test_who_waits_again_after_nobody_did_gets_the_result(own: RedisServer) -> None:
    async def main(store: Store) -> object:
        first = store.subscriptions.subscribe("id")
        await store.subscribed("id")
        store.subscriptions.unsubscribe("id", first)
        await store.subscribed("id", times=0)
        store.put("id", 42)
        return await store.arrived(store.subscriptions.subscribe("id"))

    assert run(own, main) == (states.SUCCESS, 42)


def test_taking_back_twice_does_nothing(own: RedisServer) -> None:
    async def main(store: Store) -> object:
        future = store.subscriptions.subscribe("id")
        for _ in range(2):
            store.subscriptions.unsubscribe("id", future)
        store.put("id", 1)
        return await store.arrived(store.subscriptions.subscribe("id"))

    assert run(own, main) == (states.SUCCESS, 1)


# -- outages


def kill_subscribers(server: RedisServer) -> None:
    with server.client() as client:
        cast("Any", client).client_kill_filter(_type="pubsub")


def test_a_connection_that_is_killed_is_made_again(own: RedisServer) -> None:
    async def main(store: Store) -> list[object]:
        futures = [store.subscriptions.subscribe(task_id) for task_id in ("1", "2")]
        await store.subscribed("1", "2")
        kill_subscribers(own)
        # Nobody listens: it is read when it is subscribed to again.
        store.put("1", 1)
        found: list[object] = [await store.arrived(futures[0])]
        await store.subscribed("2")
        store.put("2", 2)
        return [*found, await store.arrived(futures[1])]

    assert run(own, main) == [(states.SUCCESS, 1), (states.SUCCESS, 2)]


def test_a_server_that_is_started_anew_is_subscribed_to_again(
    own: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def main(store: Store) -> object:
        future = store.subscriptions.subscribe("id")
        await store.subscribed("id")
        own.stop()
        own.start()
        await store.subscribed("id")
        store.put("id", 42)
        return await store.arrived(future)

    assert run(own, main) == (states.SUCCESS, 42)


def test_a_server_that_stays_away_is_an_error_in_the_end(own: RedisServer) -> None:
    async def main(store: Store) -> list[object]:
        futures = [store.subscriptions.subscribe(task_id) for task_id in ("1", "2", "2")]
        await store.subscribed("1", "2")
        own.stop()
        try:
            return [*await asyncio.gather(*futures, return_exceptions=True)]
        finally:
            own.start()

    policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    errors = run(own, main, policy)

    assert [type(error) for error in errors] == [ServerAwayError] * 3
    assert all(isinstance(cast("Exception", one).__cause__, RedisConnectionError) for one in errors)


def test_after_an_outage_others_can_wait(own: RedisServer) -> None:
    async def main(store: Store) -> object:
        own.stop()
        try:
            with pytest.raises(RedisConnectionError):
                await store.subscriptions.subscribe("id")
        finally:
            own.start()
        store.put("other", 42)
        return await store.arrived(store.subscriptions.subscribe("other"))

    assert run(own, main) == (states.SUCCESS, 42)


def test_a_silent_connection_is_asked_whether_it_is_still_one(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tomskit.celery._client.subscriptions._QUIET_SHARE", 0.005)

    async def main(store: Store) -> object:
        future = store.subscriptions.subscribe("id")
        await store.subscribed("id")

        def was_asked() -> bool:
            return [one["cmd"] for one in listeners(own)] == ["ping"]

        await asyncio.to_thread(wait_until, was_asked, WAIT, "it is asked")
        store.put("id", 42)
        return await store.arrived(future)

    assert run(own, main) == (states.SUCCESS, 42)


# -- closing


def test_who_waits_when_it_is_closed_is_cancelled(own: RedisServer) -> None:
    async def main(store: Store) -> bool:
        future = store.subscriptions.subscribe("id")
        await store.subscribed("id")
        await store.subscriptions.close()
        return future.cancelled()

    assert run(own, main)


def test_closing_leaves_no_connection(own: RedisServer) -> None:
    async def main(store: Store) -> None:
        store.put("id", 1)
        await store.subscriptions.subscribe("id")
        before = len(own.clients())
        assert len(listeners(own)) == 1

        def are_closed() -> bool:
            # One that listened and one that has read what was there.
            return not listeners(own) and len(own.clients()) == before - 1

        await store.subscriptions.close()
        await asyncio.to_thread(wait_until, are_closed, WAIT, "they are closed")

    run(own, main)


def test_a_connection_on_which_nobody_waits_is_closed_after_a_while(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tomskit.celery._client.subscriptions._LINGER_SECONDS", 0.05)

    async def main(store: Store) -> object:
        future = store.subscriptions.subscribe("id")
        await store.subscribed("id")
        store.subscriptions.unsubscribe("id", future)

        def nobody_listens() -> bool:
            # One that has unsubscribed from all is as any other: it is known by its last command.
            return not listeners(own) and "unsubscribe" not in [one["cmd"] for one in own.clients()]

        await asyncio.to_thread(wait_until, nobody_listens, WAIT, "it is closed")
        store.put("id", 42)
        return await store.arrived(store.subscriptions.subscribe("id"))

    assert run(own, main) == (states.SUCCESS, 42)


def test_closing_what_was_not_used_does_nothing(own: RedisServer) -> None:
    async def main(store: Store) -> None:
        await store.subscriptions.close()

    run(own, main)

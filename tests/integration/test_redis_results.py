"""RedisResults: states of tasks, stored through an event loop as Celery stores them."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar, cast

import pytest
from celery import Celery, states
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendStoreError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.deployment import close_client
from tests.support.patience import patience
from tests.support.servers import RedisServer
from tomskit.celery._internals.celery_backend import is_redis_backend
from tomskit.celery._running.greenlets import GreenletCoroutine, await_here
from tomskit.celery.asyncio_pool.redis_results import RedisResults

# Celery calls what newer versions of redis-py have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

T = TypeVar("T")


class Store:
    """A result store as a task in the loop uses it, and Celery's own."""

    def __init__(self, app: Celery) -> None:
        backend = app.backend
        assert is_redis_backend(backend)
        self.backend: Any = backend
        self.parts: list[tuple[object, ...]] = []
        self.later: list[Callable[[], object]] = []
        self.results: Any = RedisResults(
            backend,
            chord_part=lambda *args: self.parts.append(args),
            store_later=self._store_later,
        )

    def _store_later(self, call: Callable[[], object]) -> asyncio.Task[None]:
        self.later.append(call)
        return asyncio.create_task(asyncio.sleep(0))

    def meta(self, task_id: str) -> dict[str, object]:
        """As Celery reads it, without what it remembers."""
        return cast("dict[str, object]", self.backend._get_task_meta_for(task_id))

    def key(self, task_id: str) -> Any:
        return self.backend.get_key_for_task(task_id)


def run(
    server: RedisServer,
    function: Callable[[Store], T],
    *,
    url: str | None = None,
    **settings: Any,
) -> T:
    """Call a function in a greenlet of an event loop, as the tracer of a task is."""

    async def main() -> T:
        app = Celery("worker", backend=url or server.url(), set_as_current=False, **settings)
        store = Store(app)
        try:
            async with asyncio.timeout(patience(60)):
                return await GreenletCoroutine(lambda: function(store), owner="a task")
        finally:
            await store.results.close()
            close_client(app)

    return asyncio.run(main())


def settle(store: Store) -> None:
    """Wait until what was stored before has been answered."""
    store.results.get("nothing")
    await_here(asyncio.sleep(0))


def evals(server: RedisServer) -> int:
    """How many scripts were run since the statistics were reset."""
    with server.client() as client:
        known: Any = cast("Any", client).info("commandstats")
        return int(known.get("cmdstat_eval", {"calls": 0})["calls"])


def test_it_fits_celerys_own_redis_backend(own: RedisServer) -> None:
    class Mine(RedisBackend):
        pass

    def look(store: Store) -> list[bool]:
        mine = Mine(url=own.url(), app=store.backend.app)
        fits = is_redis_backend
        return [fits(store.backend), fits(mine), fits(store.results), fits(object())]

    assert run(own, look) == [True, False, False, False]


@pytest.mark.parametrize("state", [states.SUCCESS, states.FAILURE, states.RETRY, states.REVOKED])
def test_a_state_is_stored_as_by_celery(own: RedisServer, state: str) -> None:
    result: object = {"a": [1, None]} if state == states.SUCCESS else LookupError("x")

    def store_both(store: Store) -> None:
        answers = [
            each.store_result(task_id, result, state, traceback="the traceback")
            for each, task_id in ((store.results, "ours"), (store.backend, "celerys"))
        ]
        assert answers[0] == answers[1]
        ours, celerys = store.meta("ours"), store.meta("celerys")
        for meta in (ours, celerys):
            del meta["task_id"], meta["date_done"]
            meta["result"] = repr(meta["result"])
        assert ours == celerys
        assert ours["status"] == state

    run(own, store_both)


def test_who_listens_is_told(own: RedisServer) -> None:
    def look(store: Store) -> tuple[object, object]:
        with own.client() as client, cast("Any", client).pubsub() as listening:
            listening.subscribe(store.key("id"))
            assert listening.get_message(timeout=patience(10))["type"] == "subscribe"
            store.results.store_result("id", 1, states.SUCCESS)
            message = listening.get_message(timeout=patience(10))
            return message["type"], client.get(store.key("id")) == message["data"]

    assert run(own, look) == ("message", True)


@pytest.mark.parametrize(
    ("state", "expected"), [(states.SUCCESS, 1000), (states.FAILURE, 2000), (states.RETRY, 1000)]
)
def test_a_state_expires_as_it_is_set(own: RedisServer, state: str, expected: int) -> None:
    def look(store: Store) -> int:
        store.results.failure_expires = 2000
        store.results.store_result("id", 1, state)
        with own.client() as client:
            return int(client.ttl(store.key("id")))

    assert expected - 100 < run(own, look, result_expires=1000) <= expected


def test_without_expiry_a_state_stays(own: RedisServer) -> None:
    def look(store: Store) -> int:
        store.results.store_result("id", 1, states.SUCCESS)
        with own.client() as client:
            return int(client.ttl(store.key("id")))

    assert run(own, look, result_expires=0) == -1


def test_a_result_that_there_is_stays(own: RedisServer) -> None:
    def look(store: Store) -> object:
        store.backend.store_result("id", 1, states.SUCCESS)
        store.results.store_result("id", LookupError("x"), states.FAILURE)
        return store.meta("id")["result"]

    assert run(own, look) == 1


# -- without Celery's tracer


class OfTask:
    """What a request says of a task."""

    id = "id"
    hostname = "worker@here"
    headers: Final[dict[str, object]] = {}


def test_one_that_ends_before_its_start_was_sent_is_stored_once(own: RedisServer) -> None:
    def look(store: Store) -> object:
        request, ended = OfTask(), list[object]()
        with own.client() as client, cast("Any", client).pubsub() as listening:
            listening.subscribe(store.key("id"))
            assert listening.get_message(timeout=patience(10))["type"] == "subscribe"
            store.results.store_started(request)
            data = store.results.encode_success(request, 42, [])
            store.results.store_success(request, data, ended.append)
            settle(store)
            told = [listening.get_message(timeout=patience(10))["data"]]
            # Nothing else was published before this.
            cast("Any", client).publish(store.key("id"), "the end")
            told.append(listening.get_message(timeout=patience(10))["data"])
        assert told == [data.decode(), "the end"]
        return store.meta("id")["result"], ended, store.later

    assert run(own, look) == (42, [None], [])


def test_one_that_ends_while_its_start_is_sent_is_stored_after_it(own: RedisServer) -> None:
    def look(store: Store) -> object:
        request, ended = OfTask(), list[object]()
        with own.client() as client, cast("Any", client).pubsub() as listening:
            listening.subscribe(store.key("id"))
            assert listening.get_message(timeout=patience(10))["type"] == "subscribe"
            settle(store)  # it has connected
            store.results.store_started(request)
            await_here(asyncio.sleep(0))  # it is on its way
            data = store.results.encode_success(request, 42, [])
            store.results.store_success(request, data, ended.append)
            settle(store)
            first, second = (listening.get_message(timeout=patience(10))["data"] for _ in range(2))
        assert '"STARTED"' in first
        assert '"worker@here"' in first
        assert second == data.decode()
        return store.meta("id")["result"], ended, store.later

    assert run(own, look) == (42, [None], [])


def test_one_whose_start_is_overtaken_by_celery_is_not_stored(own: RedisServer) -> None:
    def look(store: Store) -> object:
        store.results.store_started(OfTask())
        store.results.store_result("id", LookupError("x"), states.FAILURE)
        settle(store)
        return store.meta("id")["status"], store.later

    assert run(own, look) == (states.FAILURE, [])


# -- STARTED, which nobody waits for


@pytest.mark.parametrize("end", [states.FAILURE, states.REVOKED])
def test_a_late_report_does_not_hide_how_a_task_ended(own: RedisServer, end: str) -> None:
    def look(store: Store) -> list[object]:
        seen: list[object] = []
        for state in (states.STARTED, "PROGRESS", end, "PROGRESS"):
            store.results.store_result("id", None, state)
            seen.append(store.meta("id")["status"])
        return seen[1:]

    assert run(own, look) == ["PROGRESS", end, end]


def test_reports_of_a_task_that_runs_again_are_seen(own: RedisServer) -> None:
    def look(store: Store) -> list[object]:
        seen: list[object] = []
        for state in (states.FAILURE, states.STARTED, "PROGRESS"):
            store.results.store_result("id", None, state)
            seen.append(store.meta("id")["status"])
        return seen

    assert run(own, look) == [states.FAILURE, states.FAILURE, "PROGRESS"]


def test_that_a_task_has_started_is_stored(own: RedisServer) -> None:
    def look(store: Store) -> object:
        store.results.store_result("id", {"pid": 1}, states.STARTED)
        settle(store)
        return store.meta("id")["status"], store.later

    assert run(own, look) == (states.STARTED, [])


def test_that_a_short_task_has_started_is_never_told(own: RedisServer) -> None:
    def look(store: Store) -> object:
        settle(store)
        with own.client() as client:
            cast("Any", client).config_resetstat()
        store.results.store_result("id", {"pid": 1}, states.STARTED)
        store.results.store_result("id", 42, states.SUCCESS)
        settle(store)
        return store.meta("id")["status"], evals(own), store.later

    assert run(own, look) == (states.SUCCESS, 1, [])


def test_the_end_of_a_task_comes_after_its_start(own: RedisServer) -> None:
    def look(store: Store) -> object:
        store.results.store_result("id", {"pid": 1}, states.STARTED)
        await_here(asyncio.sleep(0))  # it is on its way
        await_here(asyncio.sleep(0))
        store.results.store_result("id", LookupError("x"), states.FAILURE)
        settle(store)
        return store.meta("id")["status"], store.later

    assert run(own, look) == (states.FAILURE, [])


def test_a_start_that_could_not_be_stored_is_stored_later(own: RedisServer) -> None:
    def look(store: Store) -> object:
        own.stop()
        try:
            store.results.store_result("id", {"pid": 1}, states.STARTED)
            with pytest.raises(RedisConnectionError):
                settle(store)
            await_here(asyncio.sleep(0))
        finally:
            own.start()
        [again] = store.later
        again()
        return store.meta("id")["status"]

    assert run(own, look) == states.STARTED


def test_a_state_that_cannot_be_stored_is_an_error(own: RedisServer) -> None:
    def look(store: Store) -> None:
        own.stop()
        try:
            with pytest.raises(store.results.connection_errors):
                store.results.store_result("id", 1, states.SUCCESS)
        finally:
            own.start()

    run(own, look)


# -- where it is stored as by Celery, in more commands


def test_what_the_script_cannot_read_is_stored_in_celerys_way(own: RedisServer) -> None:
    settings: dict[str, Any] = {"result_serializer": "pickle", "accept_content": ["pickle"]}

    def look(store: Store) -> object:
        store.results.store_result("id", {1, 2}, states.STARTED)
        settle(store)
        store.results.store_result("id", LookupError("x"), states.RETRY)
        store.results.store_result("id", {1, 2}, states.SUCCESS)
        store.results.store_result("id", LookupError("x"), states.FAILURE)
        return store.meta("id")["result"]

    assert run(own, look, **settings) == {1, 2}


def test_without_permission_to_run_scripts_it_is_stored_in_celerys_way(own: RedisServer) -> None:
    with own.client() as client:
        rules = ("on", ">secret", "~*", "&*", "+@all", "-@scripting")
        cast("Any", client).execute_command("ACL", "SETUSER", "limited", "reset", *rules)
    url = f"redis://limited:secret@{own.host}:{own.port}/0"

    def look(store: Store) -> list[object]:
        for task_id in ("1", "2"):
            store.results.store_result(task_id, task_id, states.SUCCESS)
        return [store.meta(task_id)["result"] for task_id in ("1", "2")]

    assert run(own, look, url=url) == ["1", "2"]


def test_another_error_of_the_server_is_raised(own: RedisServer) -> None:
    def look(store: Store) -> None:
        with own.client() as client:
            client.lpush(store.key("id"), "of another kind")
        with pytest.raises(Exception, match="WRONGTYPE"):
            store.results.store_result("id", 1, states.SUCCESS)

    run(own, look)


# -- keys


def test_keys_are_written_and_read_as_by_celery(own: RedisServer) -> None:
    def look(store: Store) -> list[object]:
        store.results.set("mine", "1")
        store.results.set("short", "2", expires=50)
        with own.client() as client:
            times = [client.ttl(key) for key in ("mine", "short")]
        return [
            store.backend.get("mine"),
            store.results.get("short"),
            store.results.get("x"),
            *times,
        ]

    mine, short, nothing, kept, kept_short = run(own, look, result_expires=1000)

    assert [mine, short, nothing] == [b"1", b"2", None]
    assert 900 < int(str(kept)) <= 1000
    assert 0 < int(str(kept_short)) <= 50


def test_a_value_that_is_too_large_is_refused(own: RedisServer) -> None:
    def look(store: Store) -> None:
        store.results._MAX_STR_VALUE_SIZE = 10
        with pytest.raises(BackendStoreError, match="too large"):
            store.results.set("key", "x" * 11)
        with pytest.raises(BackendStoreError, match="too large"):
            store.results.store_result("id", "x" * 11, states.SUCCESS)

    run(own, look)


def test_a_part_of_a_chord_is_counted_elsewhere(own: RedisServer) -> None:
    def look(store: Store) -> list[tuple[object, ...]]:
        store.results.on_chord_part_return("request", states.SUCCESS, 1)
        return store.parts

    assert run(own, look) == [("request", states.SUCCESS, 1)]


def test_states_of_many_tasks_are_stored_at_once(own: RedisServer) -> None:
    def look(store: Store) -> list[object]:
        async def store_all() -> None:
            await asyncio.gather(
                *(
                    GreenletCoroutine(
                        partial(store.results.store_result, str(number), number, states.SUCCESS),
                        owner="a task",
                    )
                    for number in range(200)
                )
            )

        await_here(store_all())
        return [store.meta(str(number))["result"] for number in range(200)]

    assert run(own, look) == list(range(200))

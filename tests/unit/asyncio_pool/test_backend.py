"""BackendCalls: the calls of a result backend, for which only the caller waits."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import pytest
from celery import states
from celery.backends.base import Backend, KeyValueStoreBackend
from typing_extensions import override

from tests.support.settings import MakeApp
from tomskit.celery import AsyncCelery
from tomskit.celery._running.greenlets import GreenletCoroutine
from tomskit.celery._running.places import GreenletPlace
from tomskit.celery.asyncio_pool.backend import BackendCalls
from tomskit.celery.asyncio_pool.hub import LoopHub

T = TypeVar("T")

WAIT = 30.0


class Memory(KeyValueStoreBackend):
    """Keeps results in this process, and notes the threads that it is called in."""

    stored: dict[object, object] = {}  # noqa: RUF012 (of all objects of a test)
    threads: list[str] = []  # noqa: RUF012
    errors: list[Exception] = []  # noqa: RUF012
    may_go_on = threading.Event()
    called = threading.Event()

    def _note(self) -> None:
        self.threads.append(threading.current_thread().name)
        self.called.set()
        assert self.may_go_on.wait(WAIT)
        if self.errors:
            raise self.errors.pop(0)

    @override
    def get(self, key: object) -> Any:
        self._note()
        return self.stored.get(key)

    @override
    def set(self, key: object, value: object) -> None:
        self._note()
        self.stored[key] = value

    @override
    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        return isinstance(exc, OSError)


class Place(GreenletPlace):
    """A task, which may have been ended."""

    def __init__(self, *, stores: bool = True, ended: bool = False) -> None:
        self._stores = stores
        self._ended = ended

    @override
    def may_store(self) -> bool:
        return self._stores

    @override
    def check(self) -> None:
        if self._ended:
            raise LookupError("ended")


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "stored", {})
    monkeypatch.setattr(Memory, "threads", [])
    monkeypatch.setattr(Memory, "errors", [])
    monkeypatch.setattr(Memory, "called", threading.Event())
    go_on = threading.Event()
    go_on.set()
    monkeypatch.setattr(Memory, "may_go_on", go_on)


@pytest.fixture
def app(make_app: MakeApp) -> AsyncCelery:
    return make_app(broker="memory://", backend=f"{__name__}:Memory")


@pytest.fixture
def calls(app: AsyncCelery, hub: LoopHub) -> Iterator[BackendCalls]:
    calls = BackendCalls(app, hub)
    yield calls
    Memory.may_go_on.set()
    calls.close()


@pytest.fixture
def backend(app: AsyncCelery, calls: BackendCalls) -> Any:
    """What Celery uses in place of its backend."""
    return calls.wrap(app.celery_backend)


def in_task(hub: LoopHub, call: Callable[[], T], place: Place | None = None) -> T:
    async def task() -> T:
        return await GreenletCoroutine(call, owner=place or Place())

    return hub.wait(task())


def call(backend: object, name: str) -> object:
    """Call a method that is looked up where it is called."""
    return getattr(backend, name)()


def status(app: AsyncCelery, task_id: str) -> object:
    """As it is in the store."""
    meta = cast("dict[str, object]", app.celery_backend.get_task_meta(task_id))
    return meta["status"]


def threads() -> set[str]:
    return {name.rpartition("_")[0] or name for name in Memory.threads}


# -- what is in the place of the backend


def test_it_is_taken_for_the_backend(app: AsyncCelery, backend: Any) -> None:
    assert issubclass(backend.__class__, Memory)
    assert isinstance(backend, Backend)


def test_there_is_one(app: AsyncCelery, calls: BackendCalls, backend: Any) -> None:
    assert calls.wrap(app.celery_backend) is backend
    assert backend is not app.celery_backend


def test_other_threads_use_their_own(hub: LoopHub, app: AsyncCelery, calls: BackendCalls) -> None:
    own = app.celery_backend

    assert hub.run_in_thread(lambda: calls.wrap(own)) is own


def test_outside_of_the_worker_it_is_celerys_own(app: AsyncCelery, backend: Any) -> None:
    backend.store_result("id", 1, states.SUCCESS)

    assert threads() == {threading.current_thread().name}


# -- for a task


def test_a_task_stores_in_a_thread_and_waits_for_that(
    hub: LoopHub, app: AsyncCelery, backend: Any
) -> None:
    in_task(hub, lambda: backend.store_result("id", {"a": 1}, states.SUCCESS))

    assert threads() == {"tomskit-results"}
    assert status(app, "id") == states.SUCCESS


def test_a_task_reads_in_a_thread(hub: LoopHub, app: AsyncCelery, backend: Any) -> None:
    app.celery_backend.store_result("id", 42, states.SUCCESS)
    Memory.threads.clear()

    assert in_task(hub, lambda: backend.get_result("id")) == 42

    assert threads() == {"tomskit-results"}


def test_other_tasks_run_while_one_waits(hub: LoopHub, backend: Any) -> None:
    Memory.may_go_on.clear()
    events: list[str] = []

    async def main() -> None:
        def store() -> None:
            backend.store_result("id", 1, states.SUCCESS)
            events.append("stored")

        task = asyncio.ensure_future(GreenletCoroutine(store, owner=Place()))
        assert await asyncio.to_thread(Memory.called.wait, WAIT)
        events.append("other")
        Memory.may_go_on.set()
        await task

    hub.wait(main())

    assert events == ["other", "stored"]


def test_a_state_is_stored_after_those_of_its_task_that_came_before(
    hub: LoopHub, app: AsyncCelery, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry of a task may have ended before it is stored that it was sent."""
    set_key = Memory.set
    looked, may_store = threading.Event(), threading.Event()

    def stand_still(self: Memory, key: object, value: object) -> None:
        if states.RETRY in str(value):
            looked.set()
            assert may_store.wait(WAIT)
        set_key(self, key, value)

    monkeypatch.setattr(Memory, "set", stand_still)

    def stored(task_id: str, value: object, state: str) -> asyncio.Future[object]:
        def store() -> object:
            return backend.store_result(task_id, value, state)

        return asyncio.ensure_future(GreenletCoroutine(store, owner=Place()))

    async def main() -> None:
        first = stored("id", ValueError("again"), states.RETRY)
        assert await asyncio.to_thread(looked.wait, WAIT)
        second = stored("id", 1, states.SUCCESS)
        await stored("of another task", 1, states.SUCCESS)
        # Time in which it would be stored, if it did not wait.
        await asyncio.wait({second}, timeout=0.3)
        may_store.set()
        await asyncio.gather(first, second)

    hub.wait(main())

    assert status(app, "id") == states.SUCCESS
    assert status(app, "of another task") == states.SUCCESS


def test_what_a_call_raises_is_raised_where_it_was_made(hub: LoopHub, backend: Any) -> None:
    Memory.errors[:] = [LookupError("x")]

    with pytest.raises(LookupError):
        in_task(hub, lambda: backend.get("key"))


def test_storing_is_retried_until_the_store_is_back(
    hub: LoopHub, app: AsyncCelery, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tomskit.celery._client.retrying._FIRST_PAUSE", 0.0)
    Memory.errors[:] = [OSError("away"), OSError("away"), OSError("away")]

    in_task(hub, lambda: backend.store_result("id", 1, states.SUCCESS))

    assert status(app, "id") == states.SUCCESS


def test_reading_is_not_retried(hub: LoopHub, backend: Any) -> None:
    Memory.errors[:] = [OSError("away")]

    with pytest.raises(OSError, match="away"):
        in_task(hub, lambda: backend.get("key"))

    assert len(Memory.threads) == 1


def test_storing_is_given_up_when_the_worker_ends_at_once(
    hub: LoopHub, app: AsyncCelery, backend: Any
) -> None:
    app.async_client.given_up.set()
    Memory.errors[:] = [OSError("away")]

    with pytest.raises(OSError, match="away"):
        in_task(hub, lambda: backend.store_result("id", 1, states.SUCCESS))


def test_a_task_that_may_not_store_stores_nothing(hub: LoopHub, backend: Any) -> None:
    place = Place(stores=False)

    assert in_task(hub, lambda: backend.store_result("id", 1, states.SUCCESS), place) is None

    assert Memory.threads == []


def test_a_task_that_was_ended_calls_nothing(hub: LoopHub, backend: Any) -> None:
    with pytest.raises(LookupError, match="ended"):
        in_task(hub, lambda: backend.get("key"), Place(ended=True))

    assert Memory.threads == []


def test_what_does_nothing_needs_no_thread(hub: LoopHub, backend: Any) -> None:
    in_task(hub, lambda: call(backend, "process_cleanup"))

    assert Memory.threads == []


def test_a_clean_up_of_a_backend_of_its_own_has_a_thread(
    hub: LoopHub, backend: Any, monkeypatch: pytest.MonkeyPatch, calls: BackendCalls
) -> None:
    monkeypatch.setattr(Memory, "process_cleanup", Memory._note)
    assert Memory.process_cleanup is not Backend.process_cleanup
    app = backend.app
    mine: Any = BackendCalls(app, hub)
    wrapped = mine.wrap(app.celery_backend)

    in_task(hub, lambda: call(wrapped, "process_cleanup"))

    assert threads() == {"tomskit-results"}
    mine.close()


# -- for the worker itself


@pytest.mark.usefixtures("worker_place")
def test_the_worker_does_not_wait_for_what_it_stores(
    app: AsyncCelery, calls: BackendCalls, backend: Any
) -> None:
    Memory.may_go_on.clear()

    assert backend.mark_as_revoked("id", "terminated") is None
    assert Memory.stored == {}

    Memory.may_go_on.set()
    calls.close()
    assert status(app, "id") == states.REVOKED


@pytest.mark.usefixtures("worker_place")
def test_the_worker_waits_for_what_it_reads(app: AsyncCelery, backend: Any) -> None:
    app.celery_backend.store_result("id", 42, states.SUCCESS)
    Memory.threads.clear()

    assert backend.get_result("id") == 42

    assert threads() == {"tomskit-results"}


@pytest.mark.usefixtures("worker_place")
def test_an_error_that_nobody_waits_for_is_logged(
    calls: BackendCalls, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Memory.errors[:] = [LookupError("cannot be stored")]

    backend.store_result("id", 1, states.SUCCESS)
    calls.close()

    assert "The result backend failed" in caplog.text
    assert "cannot be stored" in caplog.text

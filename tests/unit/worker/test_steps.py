"""RuntimeStep: the runtime in a worker's main process."""

import asyncio
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.concurrency import get_implementation
from celery.worker import state

from tests.support.settings import MakeApp
from tomskit.celery import AsyncCelery, AsyncRuntime, async_shared_task
from tomskit.celery._internals.refusals import RefusedPoolError, RefusedTasksError
from tomskit.celery._worker.signals import CHILD_FAILED
from tomskit.celery._worker.steps import RuntimeStep
from tomskit.celery.asyncio_pool.hub import LoopHub

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, CHILD_FAILED)


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(state, "should_stop", None)
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.fixture
def app(make_app: MakeApp) -> AsyncCelery:
    return make_app(broker="memory://", backend="cache+memory://")


def worker_of(app: Celery, pool: str, **members: object) -> Any:
    """What of a worker the step looks at."""
    known: dict[str, object] = {
        "app": app,
        "pool": None,
        "pool_start_method": "fork",
        "optimization": None,
        "autoscale": None,
        "concurrency": 1,
        "max_tasks_per_child": None,
        "max_memory_per_child": None,
        "pool_cls": get_implementation(pool),
        "steps": [],
        "hub": None,
        "soft_time_limit": None,
        "time_limit": None,
        "use_eventloop": True,
    }
    return SimpleNamespace(**{**known, **members})


def test_a_pool_of_green_threads_is_refused(app: AsyncCelery) -> None:
    worker = worker_of(app, "threads")
    green = type("TaskPool", (), {"is_green": True, "__module__": "celery.concurrency.gevent"})
    worker.pool_cls = green

    with pytest.raises(RefusedPoolError, match="The gevent pool cannot run coroutines"):
        RuntimeStep(worker)


def test_the_asyncio_pool_needs_a_transport_with_an_event_loop(app: AsyncCelery) -> None:
    with pytest.raises(
        RefusedPoolError, match="cannot wait for messages of the 'memory' transport"
    ):
        RuntimeStep(worker_of(app, "asyncio", use_eventloop=False))


def test_tasks_that_could_not_be_called_are_refused(app: AsyncCelery) -> None:
    async def broken(argument: object) -> None:
        pass

    broken.__annotations__["argument"] = "Nowhere"
    async_shared_task(name="broken")(broken)

    with pytest.raises(RefusedTasksError, match="broken"):
        RuntimeStep(worker_of(app, "threads"))


def test_the_step_closes_after_the_pool(app: AsyncCelery) -> None:
    worker = worker_of(app, "threads", steps=["pool"])
    step = RuntimeStep(worker)

    assert step.include(worker)

    assert worker.steps == [step, "pool"]


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_in_the_workers_own_process_the_runtime_runs(app: AsyncCelery, pool: str) -> None:
    worker = worker_of(app, pool)
    step = RuntimeStep(worker)

    step.start(worker)
    assert AsyncRuntime.app() is app
    step.stop(worker)

    assert AsyncRuntime.app() is None


def test_terminating_stops_it_as_well(app: AsyncCelery) -> None:
    worker = worker_of(app, "threads")
    step = RuntimeStep(worker)
    step.start(worker)

    step.terminate(worker)

    assert AsyncRuntime.app() is None


def test_of_a_plain_app_nothing_is_started(plain: Celery) -> None:
    worker = worker_of(plain, "threads")
    step = RuntimeStep(worker)

    step.start(worker)
    step.stop(worker)

    assert AsyncRuntime.app() is None


def test_the_parent_of_other_processes_has_none(app: AsyncCelery) -> None:
    worker = worker_of(app, "prefork")
    step = RuntimeStep(worker)

    step.start(worker)
    step.stop(worker)

    assert AsyncRuntime.app() is None


def test_the_parent_stops_when_a_process_could_not_start(app: AsyncCelery) -> None:
    worker = worker_of(app, "prefork")
    RuntimeStep(worker).start(worker)

    signal.raise_signal(CHILD_FAILED)

    stop: Any = state
    assert stop.should_stop == 1


def test_in_the_asyncio_pool_coroutines_run_on_the_workers_loop(app: AsyncCelery) -> None:
    hub = LoopHub()
    worker = worker_of(app, "asyncio", hub=hub)
    step = RuntimeStep(worker)
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    step.start(worker)
    assert signal.getsignal(signal.SIGTERM) is not signal.default_int_handler
    loop = hub.run_in_thread(lambda: AsyncRuntime.run(_loop()))
    step.stop(worker)
    hub.close()

    assert loop is hub.asyncio_loop
    assert hub.asyncio_loop.is_closed()
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    signal.signal(signal.SIGTERM, before)


async def _loop() -> object:
    return asyncio.get_running_loop()

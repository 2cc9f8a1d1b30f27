"""Threads that are together the first to use an app: each gets its tasks, and gets them whole."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from celery import Task, shared_task
from typing_extensions import override

from tests.support.patience import patience
from tests.support.settings import MakeApp
from tomskit.celery import async_shared_task
from tomskit.celery.serializers import OrjsonSerializer

THREADS = 8
APPS = 50
NAME = "first.task"
CHANCE_SECONDS = 0.2
"""How long a thread has for what it must not do; a test that goes well takes as long."""


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(THREADS) as pool:
        yield pool


@pytest.fixture
def _switching(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let threads take turns at almost every step."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def plain(number: int) -> int:
    return number


async def doubled(number: int) -> int:
    return 2 * number


def of_app(app: Any, name: str) -> Any:
    return app.task(name=name)(plain)


def of_app_async(app: Any, name: str) -> Any:
    return app.task(name=name, autoretry_for=(ValueError,))(doubled)


def shared(app: Any, name: str) -> Any:
    share: Any = shared_task
    return share(name=name)(plain)


def shared_async(app: Any, name: str) -> Any:
    share: Any = async_shared_task
    return share(name=name)(doubled)


KINDS: dict[Callable[[Any, str], Any], int] = {
    of_app: 1,
    of_app_async: 2,
    shared: 1,
    shared_async: 2,
}


class Waiting(Task[..., Any]):
    """A task that is not whole before `go_on` is set.

    Attributes:
        made: Its class, once for each time that it is made.
    """

    made: list[object]
    begun: threading.Event
    go_on: threading.Event

    @classmethod
    @override
    def on_bound(cls, app: Any) -> None:
        cls.made.append(cls)
        cls.begun.set()
        assert cls.go_on.wait(patience(10))


@pytest.fixture
def waiting() -> type[Waiting]:
    class One(Waiting):
        made: list[object] = []  # noqa: RUF012 (of this class)
        begun = threading.Event()
        go_on = threading.Event()

    return One


def chance(use: Callable[[], object], pool: ThreadPoolExecutor) -> Future[object]:
    """Let another thread use an app that is not complete yet."""
    begun = threading.Event()

    def call() -> object:
        begun.set()
        return use()

    called = pool.submit(call)
    assert begun.wait(patience(10))
    # Whatever it gets too early it has by then, on most machines.
    threading.Event().wait(CHANCE_SECONDS)
    return called


@pytest.mark.usefixtures("_switching")
@pytest.mark.parametrize("make", KINDS)
def test_threads_that_are_first_together_get_one_task(
    make_app: MakeApp, make: Callable[[Any, str], Any], threads: ThreadPoolExecutor
) -> None:
    for number in range(APPS):
        app = make_app(task_always_eager=True)
        name = f"first.task_{number}"
        task = make(app, name)
        barrier = threading.Barrier(THREADS)

        def use(app: Any = app, task: Any = task, barrier: Any = barrier) -> tuple[object, int]:
            app.set_current()
            barrier.wait(patience(10))
            return task.delay(1).get(), id(task._get_current_object())

        used = [one.result(patience(30)) for one in [threads.submit(use) for _ in range(THREADS)]]
        assert used == [(KINDS[make], id(app.tasks[name]))] * THREADS


def test_a_thread_waits_for_the_one_that_makes_a_task(
    make_app: MakeApp, waiting: type[Waiting], threads: ThreadPoolExecutor
) -> None:
    app: Any = make_app(serializer=OrjsonSerializer())
    task = app.task(name=NAME, base=waiting)(plain)
    first = threads.submit(task._get_current_object)
    assert waiting.begun.wait(patience(10))
    second = chance(task._get_current_object, threads)
    assert not second.done()
    assert len(waiting.made) == 1
    waiting.go_on.set()
    assert first.result(patience(10)) is second.result(patience(10)) is app.tasks[NAME]


def test_the_tasks_of_an_app_are_all_there_or_waited_for(
    make_app: MakeApp, waiting: type[Waiting], threads: ThreadPoolExecutor
) -> None:
    app: Any = make_app()

    class Looking(waiting):  # type: ignore[misc, valid-type]
        @classmethod
        def on_bound(cls, app: Any) -> None:
            assert NAME in app.tasks
            super().on_bound(app)

    app.task(name=NAME, base=Looking)(plain)
    app.task(name="second.task")(plain)
    made = threads.submit(app.finalize)
    assert Looking.begun.wait(patience(10))
    seen = chance(lambda: set(app.tasks), threads)
    Looking.go_on.set()
    assert {NAME, "second.task"} < set(seen.result(patience(10)))  # type: ignore[call-overload]
    made.result(patience(10))


def test_a_task_has_the_whole_configuration_whoever_reads_it(
    make_app: MakeApp, threads: ThreadPoolExecutor
) -> None:
    app: Any = make_app(serializer=OrjsonSerializer())
    task = app.task(name=NAME)(doubled)
    begun, go_on = threading.Event(), threading.Event()

    def late_default() -> dict[str, object]:
        begun.set()
        assert go_on.wait(patience(10))
        return {}

    app.add_defaults(late_default)
    read = threads.submit(lambda: app.conf.task_serializer)
    assert begun.wait(patience(10))
    used = chance(lambda: task.serializer, threads)
    go_on.set()
    assert used.result(patience(10)) == read.result(patience(10)) == "orjson"


def test_a_task_that_the_configuration_calls_for_does_not_lock_out_who_waits_for_it(
    make_app: MakeApp, threads: ThreadPoolExecutor
) -> None:
    app: Any = make_app()
    task = app.task(name=NAME)(doubled)
    begun, go_on = threading.Event(), threading.Event()

    def wait(**_: object) -> None:
        begun.set()
        assert go_on.wait(patience(10))

    def send_later(sender: Any, **_: object) -> None:
        sender.add_periodic_task(60, task.s(1), name="every minute")

    app.on_configure.connect(wait, weak=False)
    app.on_after_configure.connect(send_later, weak=False)
    read = threads.submit(lambda: app.conf.beat_schedule)
    assert begun.wait(patience(10))
    used = chance(lambda: app.tasks[NAME], threads)
    go_on.set()
    assert set(read.result(patience(10))) == {"every minute"}
    assert used.result(patience(10)) is app.tasks[NAME]

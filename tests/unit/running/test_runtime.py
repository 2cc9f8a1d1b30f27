"""AsyncRuntime without a worker."""

import asyncio
import concurrent.futures
import contextlib
import os
import signal
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context
from typing import Never, cast

import pytest
from sqlalchemy import text
from typing_extensions import override

from tests.support.patience import patience
from tests.support.threads import wait_until_in
from tomskit import TomsKitError
from tomskit.celery import AsyncCelery, AsyncRuntime, celery_context
from tomskit.errors import (
    EventLoopError,
    NotACoroutineFunctionError,
    NotInitializedError,
    ProviderError,
)
from tomskit.sqlalchemy.database import db


class Recorder:
    """A provider that notes what happens to it."""

    def __init__(self, name: str, events: list[str], fails: bool = False) -> None:
        self.name = name
        self.events = events
        self.fails = fails

    async def startup(self) -> None:
        if self.fails:
            raise OSError(f"{self.name} is broken")
        self.events.append(f"{self.name} started")

    async def shutdown(self) -> None:
        self.events.append(f"{self.name} stopped")

    @asynccontextmanager
    async def task_scope(self) -> AsyncGenerator[None]:
        yield


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_run_returns_the_result(app: AsyncCelery) -> None:
    assert AsyncRuntime.run(double(21)) == 42


def test_run_raises_what_the_coroutine_raised(app: AsyncCelery) -> None:
    async def fail() -> None:
        raise LookupError("not here")

    with pytest.raises(LookupError, match="not here"):
        AsyncRuntime.run(fail())


def test_all_runs_share_one_loop(app: AsyncCelery) -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert AsyncRuntime.run(loop()) is AsyncRuntime.run(loop())


def test_many_threads_run_at_once(app: AsyncCelery) -> None:
    everybody = 8
    arrived: list[int] = []
    all_here = asyncio.Event()

    async def meet(number: int) -> int:
        arrived.append(number)
        if len(arrived) == everybody:
            all_here.set()
        await all_here.wait()
        return number

    def run(number: int) -> int:
        return AsyncRuntime.run(meet(number))

    with ThreadPoolExecutor(everybody) as threads:
        results = list(threads.map(run, range(everybody)))

    assert results == list(range(everybody))


def test_each_run_has_a_session_of_its_own(app: AsyncCelery) -> None:
    async def use() -> object:
        await db.session.execute(text("SELECT 1"))
        return db.session

    assert AsyncRuntime.run(use()) is not AsyncRuntime.run(use())


def test_context_variables_of_the_caller_are_visible(app: AsyncCelery) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("mine")

    async def read() -> str:
        return variable.get()

    assert AsyncRuntime.run(read()) == "mine"


def test_context_variables_of_the_coroutine_stay_there(app: AsyncCelery) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="outside")

    async def write() -> None:
        variable.set("inside")

    AsyncRuntime.run(write())

    assert variable.get() == "outside"


def test_run_without_an_app_says_what_to_do() -> None:
    with pytest.raises(NotInitializedError, match=r"AsyncCelery\(.*AsyncRuntime\.init") as caught:
        AsyncRuntime.run(double(1))

    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, TomsKitError)


def test_run_from_its_own_loop_is_an_error_at_once(app: AsyncCelery) -> None:
    async def nested() -> int:
        return AsyncRuntime.run(double(1))

    with pytest.raises(EventLoopError, match="await"):
        AsyncRuntime.run(nested())


def test_shutdown_from_its_own_loop_is_an_error_at_once(app: AsyncCelery) -> None:
    async def stop() -> None:
        AsyncRuntime.shutdown()

    with pytest.raises(EventLoopError):
        AsyncRuntime.run(stop())
    assert AsyncRuntime.run(double(2)) == 4


def test_run_from_another_loop_works(app: AsyncCelery) -> None:
    async def elsewhere() -> int:
        return AsyncRuntime.run(double(3))

    assert asyncio.run(elsewhere()) == 6


def test_a_function_is_not_a_coroutine(app: AsyncCelery) -> None:
    with pytest.raises(NotACoroutineFunctionError, match="call the async function"):
        AsyncRuntime.run(cast("Coroutine[object, Never, int]", double))


def test_cancelled_coroutine_raises_an_ordinary_error(app: AsyncCelery) -> None:
    async def cancelled() -> None:
        cast("asyncio.Task[None]", asyncio.current_task()).cancel()
        await asyncio.sleep(1)

    with pytest.raises(concurrent.futures.CancelledError):
        AsyncRuntime.run(cancelled())


def test_init_is_repeatable(app: AsyncCelery) -> None:
    AsyncRuntime.init(app)
    loop = AsyncRuntime.run(_loop())
    AsyncRuntime.init(app)

    assert AsyncRuntime.run(_loop()) is loop


def test_init_for_another_app_changes_over(app: AsyncCelery) -> None:
    events: list[str] = []
    first = AsyncCelery("first", providers=[Recorder("a", events)])
    AsyncRuntime.init(first)

    AsyncRuntime.init(app)

    assert events == ["a started", "a stopped"]
    assert AsyncRuntime.app() is app


def test_run_after_shutdown_starts_again(app: AsyncCelery) -> None:
    AsyncRuntime.init(app)
    AsyncRuntime.shutdown()
    AsyncRuntime.shutdown()

    assert AsyncRuntime.run(double(4)) == 8


def test_shutdown_ends_what_was_left_in_the_background(app: AsyncCelery) -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cleaned up")

    async def leave_behind() -> None:
        app.__dict__["kept"] = asyncio.create_task(background())
        await asyncio.sleep(0)

    AsyncRuntime.run(leave_behind())
    AsyncRuntime.shutdown()

    assert ended == ["cleaned up"]


def test_providers_start_in_order_and_stop_in_reverse() -> None:
    events: list[str] = []
    app = AsyncCelery("x", providers=[Recorder("a", events), Recorder("b", events)])

    AsyncRuntime.init(app)
    AsyncRuntime.shutdown()

    assert events == ["a started", "b started", "b stopped", "a stopped"]


def test_provider_that_does_not_start_stops_those_before_it() -> None:
    events: list[str] = []
    providers = [Recorder("a", events), Recorder("bad", events, fails=True), Recorder("c", events)]
    app = AsyncCelery("x", providers=providers)

    with pytest.raises(ProviderError, match=r"'bad' did not start.*bad is broken") as caught:
        AsyncRuntime.init(app)

    assert caught.value.provider == "bad"
    assert events == ["a started", "a stopped"]
    assert AsyncRuntime.app() is None


def test_app_is_found_in_the_loops_thread(app: AsyncCelery) -> None:
    async def find() -> object:
        return celery_context.get()

    # As a worker's thread does, this one starts with an empty context.
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(copy_context().run, AsyncRuntime.run, find()).result()

    assert found is app


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_starts_a_loop_of_its_own(app: AsyncCelery) -> None:
    assert AsyncRuntime.run(double(1)) == 2

    child = os.fork()
    if child == 0:
        works = AsyncRuntime.run(double(2)) == 4
        os._exit(0 if works else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert AsyncRuntime.run(double(3)) == 6


@contextmanager
def interrupted_once(waiting: threading.Event) -> Generator[None]:
    """SIGINT for this process as soon as `waiting` is set."""

    def interrupt() -> None:
        waiting.wait()
        os.kill(os.getpid(), signal.SIGINT)

    # Where the tests run in the background of a shell, this signal is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()


def test_interruption_of_the_waiting_thread_cancels_the_coroutine(app: AsyncCelery) -> None:
    ended: list[str] = []
    waiting = threading.Event()

    async def work() -> None:
        waiting.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cleaned up")

    with interrupted_once(waiting), pytest.raises(KeyboardInterrupt):
        AsyncRuntime.run(work())

    assert ended == ["cleaned up"]


def test_coroutine_that_swallows_an_interruption_is_abandoned(
    app: AsyncCelery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tomskit.celery._running.guard.CLEANUP_SECONDS", 0.1)
    waiting = threading.Event()

    async def work() -> None:
        waiting.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    with interrupted_once(waiting), pytest.raises(KeyboardInterrupt):
        AsyncRuntime.run(work())

    assert "is abandoned" in caplog.text


async def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_shutdown_lets_a_cancelled_run_clean_up(app: AsyncCelery) -> None:
    ended: list[str] = []
    waiting = threading.Event()

    async def work() -> None:
        waiting.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.append("cleaned up")

    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(AsyncRuntime.run, work())
        waiting.wait()
        AsyncRuntime.shutdown()

        with pytest.raises(concurrent.futures.CancelledError):
            run.result(timeout=60)
    assert ended == ["cleaned up"]


def test_runs_and_shutdowns_at_once_never_hang(app: AsyncCelery) -> None:
    done = threading.Event()
    outcomes: list[int] = []

    def run() -> None:
        while not done.is_set():
            try:
                outcomes.append(AsyncRuntime.run(double(1)))
            except (NotInitializedError, concurrent.futures.CancelledError):
                continue  # the shutdown came first

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        AsyncRuntime.shutdown()
    done.set()
    for thread in threads:
        thread.join(timeout=60)

    assert not any(thread.is_alive() for thread in threads)
    assert set(outcomes) <= {2}


def test_the_first_runs_of_threads_with_different_apps_share_a_loop() -> None:
    begins, ends = threading.Event(), threading.Event()

    class Slow(Recorder):
        @override
        async def startup(self) -> None:
            begins.set()
            await asyncio.to_thread(wait_until_in, second, "_start_for_current_app")

    async def wait() -> int:
        await asyncio.to_thread(ends.wait, patience(10))
        return 1

    def run_first() -> int:
        AsyncCelery("first", providers=[Slow("slow", [])]).set_current()
        return AsyncRuntime.run(wait())

    def run_second() -> None:
        AsyncCelery("second", providers=[], set_as_current=False).set_current()
        AsyncRuntime.run(double(1))
        ends.set()

    AsyncRuntime.shutdown()
    second = threading.Thread(target=run_second)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(run_first)
        assert begins.wait(patience(10))
        second.start()
        second.join()
        ends.set()
        assert first.result() == 1

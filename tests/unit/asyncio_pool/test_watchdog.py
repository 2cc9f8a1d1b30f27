"""Watchdog: which task blocks the event loop, and where."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextvars import copy_context

import pytest
from typing_extensions import override

from tests.support.jobs import Told
from tomskit.celery._running.places import here
from tomskit.celery._running.steering import Limits
from tomskit.celery.asyncio_pool.failures import Failures
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.job import CoroutineJob
from tomskit.celery.asyncio_pool.watchdog import Watchdog
from tomskit.resources import Resources

SECONDS = 0.02
WAIT = 30.0


class Warnings(logging.Handler):
    """What the watchdog says, and an event that a test can block on until it says something."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.said = threading.Event()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.said.set()

    def block_until_said(self) -> None:
        assert self.said.wait(WAIT)


@pytest.fixture
def warnings() -> Iterator[Warnings]:
    handler = Warnings()
    logger = logging.getLogger("tomskit.celery.asyncio_pool.watchdog")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def watchdog(hub: LoopHub, warnings: Warnings) -> Iterator[Watchdog]:
    watchdog = Watchdog(hub, SECONDS)
    watchdog.start()
    yield watchdog
    watchdog.stop()


def start_job(hub: LoopHub, tracer: "Tracer") -> Told:
    told = Told()
    job = CoroutineJob(
        tracer,
        ("work", "the id"),
        told.report,
        loop=hub.asyncio_loop,
        limits=Limits(None, None),
        failures=Failures(),
    )
    job.start(copy_context())
    return told


class Tracer:
    """Celery's, for a coroutine that blocks the loop by a plain call, or in a child of its own."""

    def __init__(self, warnings: Warnings, *, in_child: bool) -> None:
        self._warnings = warnings
        self._in_child = in_child

    def __call__(self, *_: object) -> None:
        place = here()
        assert place is not None
        place.run(self._work(), Resources([]))

    async def _work(self) -> None:
        await asyncio.sleep(0)
        if self._in_child:
            await asyncio.create_task(self._block())
        else:
            await self._block()

    async def _block(self) -> None:
        self._warnings.block_until_said()


@pytest.mark.usefixtures("watchdog")
@pytest.mark.parametrize("in_child", [False, True])
def test_a_task_that_blocks_the_loop_is_named_with_its_line(
    hub: LoopHub, warnings: Warnings, in_child: bool
) -> None:
    told = start_job(hub, Tracer(warnings, in_child=in_child))

    while not told.report.is_over:
        hub.turn(0.001)

    [line] = warnings.lines
    assert line.startswith(
        f"work[the id] has blocked the event loop, and with it all other tasks, for more than "
        f"{SECONDS}s: {__file__}:"
    )
    assert line.endswith("in Warnings.block_until_said")


@pytest.mark.usefixtures("watchdog")
def test_what_is_no_task_is_the_worker_itself(hub: LoopHub, warnings: Warnings) -> None:
    hub.asyncio_loop.call_soon(warnings.block_until_said)

    hub.turn(0)

    [line] = warnings.lines
    assert line.startswith("The worker itself has blocked the event loop")


@pytest.mark.usefixtures("watchdog")
def test_each_time_that_it_is_blocked_is_said(hub: LoopHub, warnings: Warnings) -> None:
    for _ in range(2):
        warnings.said.clear()
        # The timer of the watchdog runs in between.
        hub.wait(asyncio.sleep(SECONDS))
        hub.asyncio_loop.call_soon(warnings.block_until_said)
        hub.turn(0)

    assert len(warnings.lines) >= 2


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_with_no_time_nothing_is_watched(hub: LoopHub, seconds: float) -> None:
    watchdog = Watchdog(hub, seconds)

    watchdog.start()

    assert "tomskit-watchdog" not in [thread.name for thread in threading.enumerate()]
    watchdog.stop()


def test_stopping_it_ends_its_thread(hub: LoopHub) -> None:
    watchdog = Watchdog(hub, SECONDS)
    watchdog.start()
    assert "tomskit-watchdog" in [thread.name for thread in threading.enumerate()]

    watchdog.stop()

    assert "tomskit-watchdog" not in [thread.name for thread in threading.enumerate()]

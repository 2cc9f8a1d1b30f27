"""Failures: few tasks fail at once, and none waits for ever."""

import asyncio

import pytest

from tests.support.loops import run, until
from tomskit.celery.asyncio_pool.failures import Failures

NEVER = 3600.0


def test_the_first_ones_need_not_wait() -> None:
    failures = Failures(most=2)

    assert failures.admits("a")
    assert failures.admits("b")
    assert failures.admits("a"), "it is one of them"
    assert not failures.admits("c")


async def two_waiting() -> tuple[Failures, list[asyncio.Task[None]]]:
    """Only one may fail at once: "a" does, and "b" and "c" wait for it in this order."""
    failures = Failures(most=1, patience=NEVER)
    failures.admits("a")
    waiting = [asyncio.create_task(failures.admit(name)) for name in "bc"]
    await asyncio.sleep(0)
    return failures, waiting


def test_who_waits_goes_on_when_another_one_has_ended() -> None:
    async def main() -> None:
        failures, waiting = await two_waiting()

        failures.ended("a")
        await until(waiting[0].done)

        assert not waiting[1].done()
        failures.ended("b")
        await waiting[1]

    run(main())


def test_a_task_that_has_not_failed_frees_nothing() -> None:
    failures = Failures(most=1)
    failures.admits("a")

    failures.ended("b")

    assert not failures.admits("c")


def test_nobody_waits_long_for_tasks_that_do_not_store() -> None:
    async def main() -> None:
        failures = Failures(most=1, patience=0.01)
        failures.admits("publishes a retry")

        await failures.admit("b")

    run(main())


def test_who_waits_for_the_result_backend_is_waited_for() -> None:
    async def main() -> None:
        failures = Failures(most=1, patience=0.01)
        failures.admits("a")
        with failures.storing("a"):
            waiting = asyncio.create_task(failures.admit("b"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await asyncio.shield(waiting)
        failures.ended("a")
        await waiting

    run(main())


def test_one_that_is_cancelled_when_it_was_its_turn_leaves_that_to_the_next() -> None:
    async def main() -> None:
        failures, waiting = await two_waiting()

        failures.ended("a")
        waiting[0].cancel()

        await waiting[1]
        assert waiting[0].cancelled()

    run(main())

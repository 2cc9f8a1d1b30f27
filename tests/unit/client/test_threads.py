"""Threads for calls that block."""

import asyncio
import os
import threading
from contextvars import ContextVar

import pytest

from tomskit.celery._client.threads import in_thread

AT_ONCE = 8


def test_the_call_runs_in_a_thread_that_is_not_the_loops() -> None:
    async def main() -> tuple[int, str]:
        return await in_thread(lambda: (threading.get_ident(), threading.current_thread().name))

    ident, name = asyncio.run(main())

    assert ident != threading.get_ident()
    assert name.startswith("tomskit-client")


def test_the_call_sees_the_context_variables_of_its_caller() -> None:
    variable: ContextVar[str] = ContextVar("variable")

    async def main() -> str:
        variable.set("mine")
        return await in_thread(variable.get)

    assert asyncio.run(main()) == "mine"


def test_what_the_call_sets_stays_in_its_context() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="outside")

    async def main() -> list[str]:
        await in_thread(lambda: variable.set("inside"))
        return [variable.get(), await in_thread(variable.get)]

    assert asyncio.run(main()) == ["outside", "outside"]


def test_what_the_call_raises_is_raised() -> None:
    def fail() -> None:
        raise LookupError("x")

    async def main() -> None:
        await in_thread(fail)

    with pytest.raises(LookupError, match="x"):
        asyncio.run(main())


def test_several_calls_block_at_once_and_the_loop_runs() -> None:
    together = threading.Barrier(AT_ONCE + 1, timeout=30)

    async def main() -> None:
        waiting = [in_thread(together.wait) for _ in range(AT_ONCE)]
        await asyncio.to_thread(together.wait)
        await asyncio.gather(*waiting)

    asyncio.run(main())


def test_no_more_than_a_few_threads_are_used() -> None:
    async def main() -> set[int]:
        return set(await asyncio.gather(*(in_thread(threading.get_ident) for _ in range(200))))

    assert len(asyncio.run(main())) <= AT_ONCE


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    async def main() -> int:
        return await in_thread(os.getpid)

    assert asyncio.run(main()) == os.getpid()

    child = os.fork()
    if child == 0:
        works = False
        try:
            works = asyncio.run(asyncio.wait_for(main(), 30)) == os.getpid()
        finally:
            os._exit(0 if works else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0

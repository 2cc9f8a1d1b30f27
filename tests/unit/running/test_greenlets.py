"""Greenlets: plain functions that wait, as one asyncio task with what they wait for."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

import pytest
from greenlet import getcurrent, greenlet
from sqlalchemy.util import await_only, greenlet_spawn

from tomskit.celery._running.greenlets import (
    GreenletCoroutine,
    await_here,
    greenlet_here,
    wait_to_the_end,
)

T = TypeVar("T")


async def run(function: Callable[[], T], owner: object = "owner") -> T:
    return await GreenletCoroutine(function, owner=owner)


def owner_here() -> object:
    found = greenlet_here()
    return None if found is None else found.owner


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def forever() -> None:
    await asyncio.Event().wait()


async def spawn(function: Callable[[], T]) -> T:
    """Run a function in a greenlet of SQLAlchemy's."""
    return await greenlet_spawn(function)


# -- waiting


def test_a_plain_function_gets_what_it_awaits() -> None:
    def work() -> list[int]:
        return [await_here(double(number)) for number in range(3)]

    assert asyncio.run(run(work)) == [0, 2, 4]


def test_a_function_that_awaits_nothing_returns() -> None:
    assert asyncio.run(run(lambda: 42)) == 42


def test_what_the_function_raises_is_raised() -> None:
    def work() -> None:
        await_here(double(1))
        raise LookupError("x")

    with pytest.raises(LookupError, match="x"):
        asyncio.run(run(work))


def test_what_the_awaitable_raises_is_raised_at_the_wait() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("x")

    def work() -> str:
        with pytest.raises(LookupError):
            await_here(fail())
        return "went on"

    assert asyncio.run(run(work)) == "went on"


def test_the_loop_runs_meanwhile() -> None:
    async def main() -> list[str]:
        events: list[str] = []
        set_by_other = asyncio.Event()

        async def other() -> None:
            events.append("other")
            set_by_other.set()

        def work() -> None:
            events.append("begins")
            await_here(set_by_other.wait())
            events.append("ends")

        await asyncio.gather(run(work), other())
        return events

    assert asyncio.run(main()) == ["begins", "other", "ends"]


def test_a_cancellation_is_raised_at_the_wait() -> None:
    async def main() -> list[str]:
        events: list[str] = []

        def work() -> None:
            try:
                await_here(forever())
            except asyncio.CancelledError:
                events.append("cancelled")
                await_here(double(1))
                events.append("cleaned up")
                raise

        task = asyncio.create_task(run(work))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return events

    assert asyncio.run(main()) == ["cancelled", "cleaned up"]


def test_a_cancellation_reaches_the_coroutine_that_is_awaited() -> None:
    async def main() -> str:
        async def inner() -> str:
            try:
                await forever()
            except asyncio.CancelledError:
                return "caught"
            return "not cancelled"

        task = asyncio.create_task(run(lambda: await_here(inner())))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "caught"


def test_one_that_is_cancelled_before_it_starts_never_runs() -> None:
    async def main() -> None:
        task = asyncio.create_task(run(lambda: pytest.fail("it ran")))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())


def test_one_that_was_made_in_another_greenlet_runs_where_it_is_awaited() -> None:
    def work() -> int:
        # A task of its own: the event loop steps it, and not the greenlet in which it was made.
        inner = GreenletCoroutine(lambda: await_here(double(21)), owner="inner")
        task = asyncio.get_running_loop().create_task(inner)
        return await_here(task)

    assert asyncio.run(run(work)) == 42


def test_closing_one_does_nothing_to_its_greenlet() -> None:
    async def main() -> int:
        coroutine = GreenletCoroutine(lambda: await_here(double(21)), owner="owner")
        coroutine.close()
        return await coroutine

    assert asyncio.run(main()) == 42


# -- waiting for what cannot be cancelled


def test_waiting_to_the_end_gives_the_result() -> None:
    async def main() -> int:
        future = asyncio.ensure_future(double(21))
        return await run(lambda: wait_to_the_end(future))

    assert asyncio.run(main()) == 42


def test_waiting_to_the_end_raises_the_error() -> None:
    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, LookupError("x"))
        await run(lambda: wait_to_the_end(future))

    with pytest.raises(LookupError):
        asyncio.run(main())


@pytest.mark.parametrize("fails", [True, False])
def test_a_cancellation_is_raised_when_the_end_has_come(fails: bool) -> None:
    async def main() -> list[str]:
        events: list[str] = []
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def work() -> None:
            try:
                wait_to_the_end(future)
            finally:
                events.append("over")

        task = asyncio.create_task(run(work))
        await asyncio.sleep(0)
        for _ in range(2):
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        assert not task.done()
        assert not future.cancelled()
        events.append("end")
        if fails:
            future.set_exception(LookupError("nobody hears of it"))
        else:
            future.set_result(None)
        await asyncio.wait([task])
        assert task.cancelled()
        return events

    assert asyncio.run(main()) == ["end", "over"]


# -- whose greenlet it is


def test_the_owner_is_found_inside_only() -> None:
    owner = object()

    async def main() -> object:
        found = await run(owner_here, owner)
        assert owner_here() is None
        return found

    assert asyncio.run(main()) is owner


def test_a_coroutine_that_a_greenlet_awaits_is_inside() -> None:
    async def find() -> object:
        await asyncio.sleep(0)
        return owner_here()

    assert asyncio.run(run(lambda: await_here(find()), "mine")) == "mine"


def test_a_task_that_a_greenlet_has_made_is_outside() -> None:
    async def find() -> object:
        return owner_here()

    async def make_task() -> object:
        return await asyncio.create_task(find())

    assert asyncio.run(run(lambda: await_here(make_task()), "mine")) is None


def test_the_owner_within_another_greenlet_is_the_inner_one() -> None:
    def outer() -> list[object]:
        found = [owner_here(), await_here(run(inner, "inner")), owner_here()]
        await_here(double(1))
        return found

    def inner() -> object:
        await_here(double(1))
        return owner_here()

    assert asyncio.run(run(outer, "outer")) == ["outer", "inner", "outer"]


def test_a_cancellation_reaches_a_greenlet_within_another() -> None:
    async def main() -> list[str]:
        events: list[str] = []

        def inner() -> None:
            try:
                await_here(forever())
            finally:
                events.append("inner")

        def outer() -> None:
            try:
                await_here(run(inner))
            finally:
                events.append("outer")

        task = asyncio.create_task(run(outer))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return events

    assert asyncio.run(main()) == ["inner", "outer"]


# -- greenlets that libraries put on top


def test_a_greenlet_of_sqlalchemy_on_top_can_wait_both_ways() -> None:
    def on_top() -> list[object]:
        return [await_here(double(1)), await_only(double(2)), await_here(double(3)), owner_here()]

    def work() -> list[object]:
        return [*await_here(spawn(on_top)), await_here(double(4))]

    assert asyncio.run(run(work, "mine")) == [2, 4, 6, "mine", 8]


def test_a_cancellation_reaches_the_greenlet_on_top() -> None:
    async def main() -> str:
        def on_top() -> str:
            try:
                await_here(forever())
            except asyncio.CancelledError:
                return "caught on top"
            return "not cancelled"

        task = asyncio.create_task(run(lambda: await_here(spawn(on_top))))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "caught on top"


# -- the task


def test_the_function_sees_and_sets_context_variables_of_the_task() -> None:
    variable: ContextVar[str] = ContextVar("variable")

    def work() -> str:
        seen = variable.get()
        await_here(double(1))
        variable.set("from inside")
        return seen

    async def main() -> list[str]:
        variable.set("from outside")
        return [await run(work), variable.get()]

    assert asyncio.run(main()) == ["from outside", "from inside"]


def test_the_function_and_what_it_awaits_are_one_task() -> None:
    async def current() -> object:
        await asyncio.sleep(0)
        return asyncio.current_task()

    async def main() -> bool:
        tasks = await run(lambda: [asyncio.current_task(), await_here(current())])
        return tasks == [asyncio.current_task()] * 2

    assert asyncio.run(main())


def test_greenlets_of_many_tasks_do_not_mix() -> None:
    async def main() -> list[tuple[object, int]]:
        def work(number: int) -> tuple[object, int]:
            for _ in range(number % 5):
                await_here(asyncio.sleep(0))
            return owner_here(), await_here(double(number))

        numbers = range(50)
        return await asyncio.gather(*(run(partial(work, number), number) for number in numbers))

    assert asyncio.run(main()) == [(number, 2 * number) for number in range(50)]


@pytest.mark.parametrize("outcome", ["returns", "raises", "cancelled"])
def test_no_reference_cycle_is_left(outcome: str) -> None:
    def work() -> None:
        await_here(double(1))
        await_here(spawn(lambda: await_here(double(2))))
        if outcome == "raises":
            raise LookupError("x")
        if outcome == "cancelled":
            await_here(forever())

    async def once() -> None:
        task = asyncio.create_task(run(work))
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()

    async def main() -> int:
        await once()
        gc.collect()
        gc.disable()
        try:
            await once()
            return gc.collect()
        finally:
            gc.enable()

    assert asyncio.run(main()) == 0


# -- used again


def test_a_greenlet_is_used_again_after_its_function_has_returned() -> None:
    def work() -> int:
        await_here(double(1))
        return id(getcurrent())

    async def main() -> list[int]:
        return [await run(work) for _ in range(3)]

    assert len(set(asyncio.run(main()))) == 1


def test_a_greenlet_whose_function_has_raised_is_not_used_again() -> None:
    greenlets: list[greenlet] = []

    def work() -> None:
        greenlets.append(getcurrent())
        raise LookupError

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(LookupError):
                await run(work)

    asyncio.run(main())
    first, second = greenlets
    assert first is not second
    assert first.dead
    assert second.dead


def test_an_idle_greenlet_keeps_nothing_of_what_it_ran() -> None:
    class Value:
        pass

    variable: ContextVar[Value] = ContextVar("variable")
    kept: list[weakref.ref[object]] = []

    def note(value: T) -> T:
        kept.append(weakref.ref(value))
        return value

    async def main() -> None:
        owner = note(Value())

        def work() -> Value:
            variable.set(note(Value()))
            await_here(double(1))
            return note(Value())

        note(work)
        await asyncio.create_task(run(work, owner))

    asyncio.run(main())
    assert [reference() for reference in kept] == [None] * 4


def test_the_context_of_a_task_is_not_seen_in_the_next() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    def work() -> str:
        before = variable.get()
        variable.set("set")
        await_here(double(1))
        return before

    async def main() -> list[str]:
        return [await asyncio.create_task(run(work)) for _ in range(3)]

    assert asyncio.run(main()) == ["unset"] * 3


def test_many_that_wait_at_once_leave_few_idle_ones() -> None:
    async def main() -> int:
        def work() -> None:
            await_here(double(1))

        before = _living_greenlets()
        for _ in range(3):
            await asyncio.gather(*(run(work) for _ in range(1000)))
        return _living_greenlets() - before

    assert asyncio.run(main()) <= 250


def _living_greenlets() -> int:
    gc.collect()
    # Asked for the type: a proxy of Celery's would make what it stands for.
    return sum(issubclass(type(found), greenlet) for found in gc.get_objects())

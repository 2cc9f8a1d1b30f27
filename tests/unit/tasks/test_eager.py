"""Eager mode: calls at once, from coroutines and threads, within each other, and afterwards."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from celery import _state, shared_task
from celery.result import AsyncResult, allow_join_result

from tests.support.contracts import untyped
from tomskit.celery import AsyncCelery, BoundTask, async_shared_task, chain, chord, group

MANY = 40
"""More than the client has threads."""


@async_shared_task
async def double(number: int) -> int:
    await asyncio.sleep(0.001)
    return 2 * number


@async_shared_task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@async_shared_task
async def fail(message: str) -> int:
    await asyncio.sleep(0)
    raise LookupError(message)


@async_shared_task
async def fan_out(depth: int) -> int:
    """Calls two of itself at once, and so on."""
    if depth == 0:
        return 1
    results = await asyncio.gather(fan_out.adelay(depth - 1), fan_out.adelay(depth - 1))
    return sum([await result for result in results])


@async_shared_task
async def descend(depth: int) -> int:
    """Calls itself as plain code does."""
    return 0 if depth == 0 else 1 + descend.delay(depth - 1).get()


@async_shared_task(bind=True)
async def who(self: BoundTask, nested: int) -> list[str]:
    """The ids of the requests of itself and of what it calls, as each sees its own."""
    mine = str(self.request.id)
    results = await asyncio.gather(*(who.adelay(0) for _ in range(nested)))
    seen = [result.id == (await result)[0] for result in results]
    assert self.request.id == mine
    return [mine, *("right" if one else "wrong" for one in seen)]


def test_calls_between_two_apps() -> None:
    def make(name: str) -> AsyncCelery:
        return AsyncCelery(name, broker="memory://", task_always_eager=True, providers=[])

    one, other = make("one"), make("other")

    @other.task
    async def answer(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    @one.task
    async def ask(number: int) -> list[int]:
        called = [await (await answer.adelay(number)), answer.delay(number).get()]
        return [*called, await asyncio.to_thread(answer, number)]

    def call(number: int) -> list[int]:
        return ask.delay(number).get()

    # Celery makes a task when it is first used, and threads that are the first together may find it half made.
    one.finalize()
    other.finalize()
    with ThreadPoolExecutor(4) as threads:
        asked = [*threads.map(call, range(20))]

    assert asked == [[2 * number] * 3 for number in range(20)]


@shared_task
def plain_double(number: int) -> int:
    return 2 * number


@shared_task
def plain_descend(depth: int) -> int:
    if depth == 0:
        return 0
    result: AsyncResult[int] = untyped(plain_descend).delay(depth - 1)
    return 1 + result.get()


def flags_are_clear() -> bool:
    """Whether results may be waited for here."""
    return not untyped(_state).task_join_will_block()


# -- in a coroutine


def test_many_calls_at_once(app: AsyncCelery) -> None:
    async def main() -> list[int]:
        results = await asyncio.gather(*(double.adelay(n) for n in range(MANY)))
        return [await result for result in results]

    assert asyncio.run(main()) == [2 * n for n in range(MANY)]

    assert flags_are_clear()
    assert double.delay(4).get() == 8


def test_many_calls_at_once_that_call_others(app: AsyncCelery) -> None:
    async def main() -> list[int]:
        results = await asyncio.gather(*(fan_out.adelay(3) for _ in range(10)))
        return [await result for result in results]

    assert asyncio.run(main()) == [8] * 10

    assert flags_are_clear()


def test_each_of_many_sees_its_own_request(app: AsyncCelery) -> None:
    async def main() -> list[list[str]]:
        results = await asyncio.gather(*(who.adelay(5) for _ in range(5)))
        assert len({result.id for result in results}) == 5
        return [await result for result in results]

    for seen in asyncio.run(main()):
        assert seen[1:] == ["right"] * 5


def test_plain_calls_in_a_coroutine(app: AsyncCelery) -> None:
    async def main() -> int:
        await asyncio.sleep(0)
        return descend.delay(2).get()

    assert asyncio.run(main()) == 2

    assert flags_are_clear()


def test_groups_chains_and_chords_at_once(app: AsyncCelery) -> None:
    async def main() -> list[object]:
        grouped, chained, chorded = await asyncio.gather(
            group(double.s(1), double.s(2)).adelay(),
            chain(double.s(3), double.p()).adelay(),
            chord([double.s(1), double.s(2)], total.p()).adelay(),
        )
        return [await grouped, await chained, await chorded]

    assert asyncio.run(main()) == [[2, 4], 12, 6]

    assert flags_are_clear()


def test_errors_at_once(app: AsyncCelery) -> None:
    async def main() -> list[object]:
        return await asyncio.gather(
            *(fail.adelay(str(n)) for n in range(MANY)), return_exceptions=True
        )

    for result in asyncio.run(main()):
        assert isinstance(result, AsyncResult)
        with pytest.raises(LookupError):
            result.get()
    assert flags_are_clear()


def test_errors_that_propagate(app: AsyncCelery) -> None:
    app.conf.task_eager_propagates = True

    async def main() -> list[object]:
        return await asyncio.gather(
            *(fail.adelay(str(n)) for n in range(MANY)), return_exceptions=True
        )

    found = asyncio.run(main())

    assert [error.args for error in found if isinstance(error, LookupError)] == [
        (str(n),) for n in range(MANY)
    ]
    assert flags_are_clear()
    with pytest.raises(LookupError, match="later"):
        fail.delay("later")
    assert flags_are_clear()


def test_results_are_stored(app: AsyncCelery) -> None:
    app.conf.task_store_eager_result = True

    async def main() -> list[str]:
        results = await asyncio.gather(*(double.adelay(n) for n in range(8)))
        return [result.id for result in results]

    ids = asyncio.run(main())

    assert [double.AsyncResult(one).get() for one in ids] == [2 * n for n in range(8)]


# -- in threads


@pytest.mark.parametrize("task", [double, plain_double])
def test_calls_in_many_threads(app: AsyncCelery, task: object) -> None:
    def call(number: int) -> object:
        app.set_current()
        result: AsyncResult[object] = untyped(task).delay(number)
        return result.get()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(call, range(MANY))) == [2 * n for n in range(MANY)]

    assert flags_are_clear()


# -- where no loop runs


def test_nested_calls(app: AsyncCelery) -> None:
    assert descend.delay(3).get() == 3
    assert untyped(plain_descend).delay(3).get() == 3
    assert flags_are_clear()


def test_chains_groups_and_chords_of_plain_tasks(app: AsyncCelery) -> None:
    plain = untyped(plain_double)

    async def main() -> object:
        await asyncio.gather(*(double.adelay(n) for n in range(8)))
        return group([plain.s(1), plain.s(2)]).apply_async().get()

    assert asyncio.run(main()) == [2, 4]
    assert (plain.s(1) | plain.s()).apply_async().get() == 4
    assert flags_are_clear()


def test_a_task_may_allow_itself_to_wait(app: AsyncCelery) -> None:
    @async_shared_task
    async def outer() -> int:
        with allow_join_result():
            return double.delay(1).get()

    assert outer.delay().get() == 2
    assert flags_are_clear()


def test_arguments_are_serialized_as_for_a_message(app: AsyncCelery) -> None:
    @shared_task
    def kinds(*args: object) -> list[str]:
        return [type(arg).__name__ for arg in args]

    assert untyped(kinds).delay((1, 2), 3).get() == ["list", "int"]


def test_impossible_limits_are_refused(app: AsyncCelery) -> None:
    @async_shared_task(soft_time_limit=3, time_limit=2)
    async def limited() -> None: ...

    with pytest.raises(ValueError, match="soft_time_limit must be"):
        limited.delay()


def test_arguments_of_plain_tasks_are_checked(app: AsyncCelery) -> None:
    with pytest.raises(TypeError):
        untyped(plain_double).delay(1, 2)


@async_shared_task(bind=True)
async def give_way(self: BoundTask, number: int, raises: bool) -> int:
    of_celery: Any = self
    if raises:
        raise of_celery.replace(double.s(number) | double.p())
    return cast("int", of_celery.replace(double.s(number)))


@async_shared_task(bind=True, max_retries=2)
async def give_way_later(self: BoundTask, number: int) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    of_celery: Any = self
    raise of_celery.replace(fail.si("gave way") if number < 0 else double.s(number))


def test_a_task_replaces_itself(app: AsyncCelery) -> None:
    assert give_way.delay(1, raises=False).get() == 2
    assert give_way.delay(1, raises=True).get() == 4
    assert (double.s(1) | give_way.p(raises=True) | double.p()).delay().get() == 16
    assert group([give_way.s(1, raises=True), give_way.s(2, raises=False)]).delay().get() == [4, 4]


def test_a_task_replaces_itself_when_it_is_retried(app: AsyncCelery) -> None:
    assert give_way_later.delay(3).get() == 6
    with pytest.raises(LookupError, match="gave way"):
        give_way_later.delay(-3).get()


def test_a_coroutine_calls_tasks_that_replace_themselves(app: AsyncCelery) -> None:
    async def call() -> list[int]:
        results = await asyncio.gather(*(give_way.adelay(n, raises=True) for n in range(4)))
        return [await result for result in results]

    assert asyncio.run(call()) == [0, 4, 8, 12]

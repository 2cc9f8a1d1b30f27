"""Tasks where they are called, with an app that runs them there."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from celery import current_task
from celery.exceptions import Retry

from tests.support.pictures import Picture, scale, width
from tomskit.celery import AsyncCelery, BoundTask, async_shared_task
from tomskit.errors import TaskArgumentsError


@async_shared_task
async def bare(a: int, *, b: int = 1) -> int:
    """Adds."""
    await asyncio.sleep(0)
    return a + b


@async_shared_task(name="named", queue="slow")
async def named(a: int) -> int:
    return a


@async_shared_task(bind=True)
async def bound(self: BoundTask, a: int) -> list[object]:
    return [self.name, self.request.id, a, current_task.request.id]


@async_shared_task(bind=True)
async def retries(self: BoundTask, times: int) -> int:
    if self.request.retries < times:
        raise self.retry(countdown=0)
    return self.request.retries


@async_shared_task
async def nested(depth: int) -> int:
    if depth == 0:
        return 0
    return 1 + nested.delay(depth - 1).get(disable_sync_subtasks=False)


def test_eager_call_gives_the_result(app: AsyncCelery) -> None:
    assert bare.delay(1, b=2).get() == 3
    assert bare.apply(args=(4,)).get() == 5


def test_direct_call_runs_the_task(app: AsyncCelery) -> None:
    assert bare(1, b=5) == 6
    assert bare.run(1, b=5) == 6


def test_bound_task_is_handed_to_the_function(app: AsyncCelery) -> None:
    result = bound.delay(3)

    assert result.get() == [bound.name, result.id, 3, result.id]


def test_retry_works_eagerly(app: AsyncCelery) -> None:
    assert retries.delay(2).get() == 2


def test_eager_task_may_call_another_from_its_coroutine(app: AsyncCelery) -> None:
    assert nested.delay(3).get() == 3


def test_adelay_sends_like_delay(app: AsyncCelery) -> None:
    async def send() -> int:
        return (await bare.adelay(1, b=1)).get()

    assert asyncio.run(send()) == 2


def test_func_is_the_function_itself(app: AsyncCelery) -> None:
    assert asyncio.run(bare.func(1, b=3)) == 4
    assert asyncio.run(retries.func(0)) == 0


def test_arguments_are_checked_when_it_is_called(app: AsyncCelery) -> None:
    call = cast("Callable[..., object]", bare.delay)

    with pytest.raises(TypeError, match="c"):
        call(1, c=2)
    with pytest.raises(TypeError, match="a"):
        call()
    with pytest.raises(TypeError, match="a"):
        cast("Callable[..., object]", bound.delay)()


class TestQueue:
    """`queue=` is a default: what is said elsewhere wins."""

    @pytest.fixture
    def sent(self, app: AsyncCelery, monkeypatch: pytest.MonkeyPatch) -> list[object]:
        app.conf.task_always_eager = False
        queues: list[object] = []

        def send_task(*_: object, **options: object) -> None:
            queues.append(options.get("queue"))

        monkeypatch.setattr(app, "send_task", send_task)
        return queues

    def test_of_the_decorator(self, sent: list[object]) -> None:
        named.delay(1)
        named.s(1).apply_async()

        assert sent == ["slow", "slow"]

    def test_of_the_call_wins(self, sent: list[object]) -> None:
        named.apply_async((1,), queue="fast")

        assert sent == ["fast"]

    def test_of_task_routes_wins(self, app: AsyncCelery, sent: list[object]) -> None:
        app.conf.task_routes = {"named": {"queue": "routed"}}

        named.delay(1)

        assert sent == [None]

    def test_of_other_tasks_is_celerys(self, sent: list[object]) -> None:
        bare.delay(1)

        assert sent == [None]


def test_retry_outside_of_a_task_raises_the_error(app: AsyncCelery) -> None:
    with pytest.raises(Retry):
        asyncio.run(retries.func(1))


def test_map_checks_items_and_sends_results(app: AsyncCelery) -> None:
    pictures = [Picture(name="a"), Picture(name="b", width=3)]

    mapped = cast("list[dict[str, object]]", scale.map(pictures).apply_async().get())
    assert [one["width"] for one in mapped] == [320, 1]
    starred = scale.starmap([(pictures[0], 2.0)]).apply_async().get()
    assert cast("list[dict[str, object]]", starred)[0]["width"] == 1280
    with pytest.raises(TaskArgumentsError):
        width.map(["a"])  # type: ignore[list-item]

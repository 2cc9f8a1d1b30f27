# A result that nobody waits for is as it should be here.
# mypy: disable-error-code="unused-awaitable"
"""Every kind of parameter reaches the callers of a task as the function has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, assert_type

from celery import Task
from celery.result import AsyncResult

from tomskit.celery import AsyncTask, ImmutableSignature, TypedResult, async_shared_task

R = TypeVar("R")


@async_shared_task
async def resize(image: str, width: int = 640, height: int = 480, *, crop: bool) -> bytes:
    return image.encode()[: width * height * crop]


@async_shared_task(serializer="orjson", compression="gzip", typing=False, trail=False)
async def tag(image: str, *labels: str, **scores: float) -> set[str]:
    return {image, *labels, *scores}


@async_shared_task(track_started=True, send_events=True, resultrepr_maxsize=64)
async def nothing() -> None: ...


@async_shared_task(dont_autoretry_for=(KeyError,), retry_kwargs={"max_retries": 2}, priority=3)
async def optional(image: str | None = None, /) -> tuple[int, str] | None:
    return None if image is None else (1, image)


@async_shared_task(
    acks_late=True,
    acks_on_failure=False,
    acks_on_timeout=False,
    reject_on_worker_lost=True,
    retry_on_worker_lost=True,
    store_errors_even_if_ignored=True,
    default_retry_delay=1.5,
    retry_backoff=2.5,
)
async def index(images: list[str]) -> int:
    return len(images)


class Resize(Protocol):
    """What a caller may ask for who knows no Celery."""

    def __call__(
        self, image: str, width: int = ..., height: int = ..., *, crop: bool
    ) -> TypedResult[bytes]: ...


def sending() -> None:
    assert_type(resize.delay("a.png", crop=True), TypedResult[bytes])
    assert_type(resize.delay("a.png", 320, crop=True).get(timeout=1.0), bytes)
    assert_type(resize.delay(image="a.png", height=1, crop=False).get(), bytes)
    assert_type(tag.delay("a.png"), TypedResult[set[str]])
    assert_type(tag.delay("a.png", "cat", "dog", cat=0.9, dog=0.1).get(), set[str])
    assert_type(nothing.delay().get(), None)
    assert_type(optional.delay(), TypedResult[tuple[int, str] | None])
    assert_type(optional.delay("a.png").get(), tuple[int, str] | None)
    assert_type(index.delay(["a.png"]).get(), int)


async def sending_from_a_coroutine() -> None:
    assert_type(await resize.adelay("a.png", crop=True), TypedResult[bytes])
    assert_type(await tag.adelay("a.png", "cat", cat=1), TypedResult[set[str]])
    assert_type(await nothing.adelay(), TypedResult[None])


async def calling_the_function() -> None:
    assert_type(await resize.func("a.png", 1, 1, crop=True), bytes)
    assert_type(await tag.func("a.png", cat=0.5), set[str])
    assert_type(await optional.func(), tuple[int, str] | None)


def immutable_signatures() -> None:
    assert_type(resize.si("a.png", crop=True), ImmutableSignature[bytes])
    assert_type(tag.si("a.png", "cat"), ImmutableSignature[set[str]])
    assert_type(nothing.si(), ImmutableSignature[None])
    assert_type(index.si(["a.png"]).delay(), TypedResult[int])


async def passing_tasks_around() -> None:
    def names(task: AsyncTask[..., object]) -> str:
        return task.name

    def results(send: Callable[[str], AsyncResult[R]]) -> R:
        return send("a.png").get()

    def by_celery(task: Task[..., R]) -> AsyncResult[R]:
        return task.delay(["a.png"])

    def once(function: Callable[[str], Awaitable[R]]) -> Awaitable[R]:
        return function("a.png")

    thumbnail: Resize = resize.delay
    assert_type(thumbnail("a.png", crop=True), TypedResult[bytes])
    assert_type(names(resize) + names(nothing), str)
    assert_type(results(tag.delay), set[str])
    assert_type(await once(tag.func), set[str])
    counted: AsyncTask[..., int] = index
    assert_type(counted.delay(["a.png"]), TypedResult[int])
    plain: Task[..., int] = index
    assert_type(by_celery(plain), AsyncResult[int])
    assert_type(by_celery(index).get(), int)

"""Numbers of seconds that cannot work are refused where they are given."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError

from tomskit.celery import AsyncCelery, BoundTask, TypedResult, async_shared_task

NAN = math.nan


@async_shared_task
async def nothing() -> None: ...


@async_shared_task(bind=True)
async def again(self: BoundTask, countdown: float) -> None:
    raise self.retry(countdown=countdown)


@pytest.fixture
def app() -> Iterator[AsyncCelery]:
    """An app that sends to nobody."""
    app = AsyncCelery("client", broker="memory://", backend="cache+memory://")
    yield app
    app.close()


def in_loop(call: Callable[..., Coroutine[object, object, object]]) -> Callable[..., object]:
    return lambda *args, **options: asyncio.run(call(*args, **options))


async def read_progress(result: Any, **options: Any) -> None:
    async for _ in result.progress(dict[str, int], **options):
        pass


def join(result: Any, **options: Any) -> object:
    return result.app.GroupResult("group", [result]).get(**options)


RESULT: Any = TypedResult
WAITS: dict[str, Callable[..., object]] = {
    "get": RESULT.get,
    "aget": in_loop(RESULT.aget),
    "group": join,
    "progress": in_loop(read_progress),
    "astate": in_loop(RESULT.astate),
    "arevoke": in_loop(RESULT.arevoke),
    "aforget": in_loop(RESULT.aforget),
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize(("timeout", "error"), [(NAN, ValueError), ("3", TypeError)])
def test_a_wait_for_no_number_of_seconds_is_an_error(
    app: AsyncCelery, wait: str, timeout: object, error: type[Exception]
) -> None:
    result = app.AsyncResult("never-sent")
    with pytest.raises(error, match=rf"^timeout={timeout!r}: it is a number of seconds\."):
        WAITS[wait](result, timeout=timeout)


@pytest.mark.parametrize("wait", ["aget", "progress"])
def test_pauses_of_no_number_of_seconds_are_an_error(app: AsyncCelery, wait: str) -> None:
    with pytest.raises(ValueError, match=r"^interval=nan: it is a number of seconds"):
        WAITS[wait](app.AsyncResult("never-sent"), interval=NAN)


@pytest.mark.parametrize("wait", ["get", "aget", "group"])
def test_a_wait_that_is_over_before_it_begins_ends_at_once(app: AsyncCelery, wait: str) -> None:
    with pytest.raises(CeleryTimeoutError):
        WAITS[wait](app.AsyncResult("never-sent"), timeout=-1)


@pytest.mark.parametrize("wait", ["get", "aget"])
def test_an_infinite_wait_ends_with_the_task(app: AsyncCelery, wait: str) -> None:
    app.backend.store_result("done", 3, "SUCCESS")
    assert WAITS[wait](app.AsyncResult("done"), timeout=math.inf) == 3


def _apply(app: AsyncCelery, **options: Any) -> object:
    return nothing.apply_async(**options)


def _apply_in_a_loop(app: AsyncCelery, **options: Any) -> object:
    return asyncio.run(nothing.aapply_async(**options))


def _send_by_name(app: AsyncCelery, **options: Any) -> object:
    return app.send_task("nothing", **options)


def _apply_signature(app: AsyncCelery, **options: Any) -> object:
    return nothing.s().apply_async(**options)


CALLS = (_apply, _apply_in_a_loop, _send_by_name, _apply_signature)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("option", ["countdown", "expires", "soft_time_limit", "time_limit"])
@pytest.mark.parametrize("value", [NAN, math.inf])
def test_an_option_of_a_call_that_is_no_time_is_an_error(
    app: AsyncCelery, call: Callable[..., object], option: str, value: float
) -> None:
    with pytest.raises(ValueError, match=rf"^{option}={value!r}: it is a number of seconds"):
        call(app, **{option: value})


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("time_limit", -1, ValueError),
        ("soft_time_limit", "3", TypeError),
        ("countdown", "3", TypeError),
        ("countdown", timedelta(seconds=1), TypeError),
    ],
)
def test_so_is_one_of_another_kind(
    app: AsyncCelery, option: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"^{option}="):
        _apply(app, **{option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"countdown": -1},
        {"expires": -1},
        {"expires": datetime(2030, 1, 1, tzinfo=UTC)},
        {"expires": "2030-01-01T00:00:00"},
        {"time_limit": 0, "soft_time_limit": None},
        {"countdown": True},
    ],
    ids=str,
)
def test_what_celery_takes_is_taken(app: AsyncCelery, options: dict[str, object]) -> None:
    assert _apply(app, **options)


@pytest.mark.usefixtures("app")
def test_a_retry_after_no_number_of_seconds_fails_the_task() -> None:
    result = again.apply((NAN,))
    assert result.state == "FAILURE"
    assert isinstance(result.result, ValueError)

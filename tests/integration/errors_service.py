"""A service whose tasks fail with errors that are not made of their text."""

from __future__ import annotations

import asyncio

import httpx
from pydantic import BaseModel
from sqlalchemy import create_engine, text

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task

app = AsyncCelery("errors_service", config=CeleryConfig(), set_as_current=False)


class CardError(Exception):
    """Has arguments that are given by name only."""

    def __init__(self, *, code: int) -> None:
        super().__init__("refused")
        self.code = code


class Order(BaseModel):
    number: int


def _insert_twice() -> None:
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (a INTEGER UNIQUE)"))
            for _ in range(2):
                connection.execute(text("INSERT INTO t VALUES (:a)"), {"a": 1})
    finally:
        engine.dispose()


def _raise_rare() -> None:
    # The client does not know the module.
    from tests.support.rare_errors import RareError

    raise RareError(5, where="here")


def _raise(kind: str) -> None:
    match kind:
        case "database":
            _insert_twice()
        case "group":
            raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
        case "validation":
            Order.model_validate({"number": "none"})
        case "keywords":
            raise CardError(code=5)
        case "rare":
            _raise_rare()
        case "http":
            request = httpx.Request("GET", "http://localhost")
            response = httpx.Response(500, request=request)
            raise httpx.HTTPStatusError("bad", request=request, response=response)
        case "cause":
            raise ValueError("no number") from CardError(code=7)
        case _:
            raise ValueError(kind)


@async_shared_task
async def fail(kind: str) -> int:
    _raise(kind)
    return 1


@async_shared_task
async def double(number: int) -> int:
    return 2 * number


class _Shared:
    """What two tasks wait for, which fails, and what the one of them waits for that goes on."""

    waiting = 0
    failing: asyncio.Future[None] | None = None
    more: asyncio.Future[str] | None = None


async def _fail_together() -> None:
    if _Shared.failing is None:
        _Shared.failing = asyncio.get_running_loop().create_future()
    _Shared.waiting += 1
    if _Shared.waiting == 2:
        _Shared.failing.set_exception(LookupError("shared"))
    await _Shared.failing


@async_shared_task
async def share_and_fail() -> None:
    await _fail_together()


@async_shared_task
async def share_and_go_on() -> str:
    try:
        await _fail_together()
    except LookupError:
        _Shared.more = asyncio.get_running_loop().create_future()
        return await _Shared.more
    return "nothing was raised"


@async_shared_task
async def let_go_on() -> None:
    while _Shared.more is None:  # noqa: ASYNC110 (another task sets it)
        await asyncio.sleep(0.01)
    _Shared.more.set_result("went on")

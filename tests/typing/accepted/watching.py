"""A status page that watches, cancels and forgets tasks."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, assert_type
from uuid import UUID

from celery.result import AsyncResult
from tests.typing.accepted.shop import charge, price

from tomskit.celery import AsyncCelery, TypedGroupResult, TypedResult, TypedResultSet, group


async def status(task_id: str) -> tuple[str, bool]:
    result = charge.AsyncResult(task_id)
    assert_type(result, TypedResult[str])
    assert_type(await result.astate(), str)
    return await result.astate(timeout=2), await result.aready(timeout=0.5)


async def cancel(task_id: str) -> None:
    result = price.AsyncResult(task_id)
    assert_type(await result.arevoke(), None)
    await result.arevoke(terminate=True, signal="SIGUSR1", timeout=3)
    assert_type(await result.aforget(timeout=3), None)


async def of_a_group(skus: list[str], order_id: UUID) -> bool:
    members = await group(price.s(sku) for sku in skus).adelay()
    several = await group(charge.s(order_id, Decimal(3)), price.s("tea")).adelay()
    assert_type(several, TypedGroupResult[str | Decimal])
    if await members.aready():
        assert_type(await members.aforget(), None)
    await members.arevoke(terminate=True)
    return await several.aready(timeout=1)


async def of_an_eager_call(sku: str) -> str:
    done = price.apply((sku,))
    await done.arevoke()
    return await done.astate()


async def of_an_id(app: AsyncCelery, task_id: str) -> None:
    result = app.AsyncResult(task_id)
    assert_type(result, TypedResult[Any])
    sent = app.send_task("shop.price", ("tea",))
    assert_type(sent, TypedResult[Any])
    assert_type(await result.astate(), str)
    assert_type(await app.AsyncResult(task_id, task_name=price.name), Any)
    assert_type(app.send_task("shop.price", result_cls=AsyncResult[str]), AsyncResult[str])
    members = app.ResultSet([result, sent])
    assert_type(members, TypedResultSet[Any])
    assert_type(await members, list[Any])
    together: TypedResultSet[Decimal] = TypedResultSet([price.AsyncResult(task_id)])
    assert_type(await together.aget(timeout=3), list[Decimal])
    restored = app.GroupResult.restore("group")
    if restored is not None:
        assert_type(await restored, list[Any])

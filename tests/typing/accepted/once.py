# A result that nobody waits for is as it should be here.
# mypy: disable-error-code="unused-awaitable"
"""Tasks that commit once, and messages that are sent on commit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import assert_type
from uuid import UUID

from tomskit.celery import (
    AsyncTask,
    BoundTask,
    TypedGroupResult,
    TypedResult,
    async_shared_task,
    chain,
    chord,
    group,
)
from tomskit.sqlalchemy.database import db


@dataclass(frozen=True)
class Payment:
    order: UUID
    amount: Decimal


@async_shared_task(once=True)
async def pay(order: UUID, amount: Decimal) -> Payment:
    receipt.delay_on_commit(order, copies=2)
    await receipt.adelay_on_commit(order)
    return Payment(order, amount)


@async_shared_task(once=True, bind=True, max_retries=3)
async def refund(self: BoundTask, payment: Payment, reason: str = "") -> int:
    return self.request.retries


@async_shared_task
async def receipt(order: UUID, *, copies: int = 1) -> str:
    return str(order) * copies


@async_shared_task(once="reports")
async def add_up(day: str) -> None: ...


@async_shared_task
async def total(payments: list[Payment]) -> Decimal:
    return sum((payment.amount for payment in payments), Decimal())


async def calls(order: UUID) -> None:
    assert_type(pay.delay_on_commit(order, Decimal(3)), TypedResult[Payment])
    assert_type(await pay.adelay_on_commit(order, amount=Decimal(3)), TypedResult[Payment])
    assert_type(receipt.delay_on_commit(order, copies=2), TypedResult[str])
    later = receipt.options(countdown=60, priority=3)
    assert_type(later.delay_on_commit(order, copies=2), TypedResult[str])
    assert_type(await later.adelay_on_commit(order), TypedResult[str])
    assert_type(refund.delay_on_commit(Payment(order, Decimal(3)), "late"), TypedResult[int])
    await db.session.commit()
    await db.create_tables()


async def signatures(order: UUID) -> None:
    one = pay.s(order, Decimal(3))
    assert_type(one.delay_on_commit(), TypedResult[Payment])
    assert_type(await one.adelay_on_commit(), TypedResult[Payment])
    assert_type(refund.p("late").delay_on_commit(Payment(order, Decimal(3))), TypedResult[int])
    assert_type(chain(one, refund.p()).delay_on_commit(), TypedResult[int])
    assert_type(await (one | refund.p()).adelay_on_commit(), TypedResult[int])
    assert_type(group(one, one).delay_on_commit(), TypedGroupResult[Payment])
    assert_type(await group([one]).adelay_on_commit(), TypedGroupResult[Payment])
    assert_type(chord([one, one], total.p()).delay_on_commit(), TypedResult[Decimal])


def delays(task: AsyncTask[[timedelta], None], by: timedelta) -> TypedResult[None]:
    return task.delay_on_commit(by)

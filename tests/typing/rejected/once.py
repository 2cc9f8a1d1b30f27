"""Calls on commit that do not fit the function, and options that once=True does not take."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID, uuid4

from tests.typing.accepted.once import Payment, pay, receipt, refund

from tomskit.celery import async_shared_task

order = uuid4()


@async_shared_task(once=3)  # E: int for bool or a name
async def wordy(order: UUID) -> None: ...


def delay() -> None:
    pay.delay_on_commit(order)  # E: amount is missing
    pay.delay_on_commit(str(order), Decimal(3))  # E: str for UUID
    pay.delay_on_commit(order, 3.5)  # E: float for Decimal
    receipt.delay_on_commit(order, 2)  # E: copies is keyword-only
    receipt.options(countdown=3).delay_on_commit(order, copies="2")  # E: str for int
    refund.delay_on_commit(None, Payment(order, Decimal(3)))  # E: self is not of the call
    pay.s(order, Decimal(3)).delay_on_commit(order)  # E: has all its arguments
    refund.p("late").delay_on_commit(order)  # E: UUID for Payment


async def adelay() -> None:
    await pay.adelay_on_commit(order)  # E: amount is missing
    pay.adelay_on_commit(order, Decimal(3))  # E: not awaited
    await receipt.options(priority=3).adelay_on_commit()  # E: order is missing
    await refund.p().adelay_on_commit()  # E: the payment is missing

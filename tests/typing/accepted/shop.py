# A result that nobody waits for is as it should be here.
# mypy: disable-error-code="unused-awaitable"
"""The background work of a shop: models, tasks, and the web side that sends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, assert_type
from uuid import UUID

import redis.asyncio
from celery.result import AsyncResult
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tomskit.celery import (
    AsyncTask,
    BoundTask,
    ImmutableSignature,
    TypedResult,
    TypedSignature,
    async_shared_task,
)
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy.database import db

logger = logging.getLogger(__name__)

Currency = Literal["EUR", "USD"]


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    customer: Mapped[str]
    total: Mapped[Decimal]
    paid_at: Mapped[datetime | None]


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int = 1


class PaymentError(Exception):
    pass


class GatewayBusyError(Exception):
    pass


@async_shared_task
async def price(sku: str, *, currency: Currency = "EUR") -> Decimal:
    """The price of one piece."""
    cached = await redis_client.get(f"price:{sku}:{currency}")
    assert_type(cached, bytes | str | None)
    if cached is None:
        cached = "1.00"
        await redis_client.set(f"price:{sku}:{currency}", cached, ex=timedelta(minutes=5))
    return Decimal(cached if isinstance(cached, str) else cached.decode())


@async_shared_task(name="shop.place_order", queue="orders", acks_late=True, time_limit=30)
async def place_order(order_id: UUID, customer: str, lines: Sequence[Line]) -> Order:
    """Store an order."""
    assert_type(db.session, AsyncSession)
    # A task calls another one's function as any coroutine function.
    prices = await asyncio.gather(*(price.func(line.sku, currency="USD") for line in lines))
    assert_type(prices, list[Decimal])
    total = sum((p * line.quantity for p, line in zip(prices, lines, strict=True)), Decimal())
    order = Order(id=order_id, customer=customer, total=total, paid_at=None)
    db.session.add(order)
    await db.session.commit()
    await send_receipt.adelay(order_id, copies=1)
    return order


@async_shared_task(
    bind=True,
    queue="payments",
    max_retries=5,
    autoretry_for=(OperationalError,),
    retry_backoff=True,
    retry_backoff_max=600,
    retry_jitter=True,
    soft_time_limit=20.5,
    rate_limit="10/s",
    throws=(PaymentError,),
)
async def charge(self: BoundTask, order_id: UUID, amount: Decimal) -> str:
    """Charge the customer; the gateway's reference."""
    assert_type(self.name, str)
    assert_type(self.max_retries, int | None)
    assert_type(self.request.id, str | None)
    assert_type(self.request.retries, int)
    assert_type(self.request.is_eager, bool)
    logger.info("%s, try %d on %s", self.name, self.request.retries, self.request.hostname)
    self.update_state(state="CHARGING", meta={"order": str(order_id)})
    if amount <= 0:
        raise PaymentError
    try:
        order = await db.session.get_one(Order, order_id)
        order.paid_at = datetime.now(UTC)
        await db.session.commit()
    except GatewayBusyError as exc:
        raise self.retry(exc=exc, countdown=2.5, max_retries=10) from exc
    return f"{order.customer}:{amount}"


@async_shared_task(expires=timedelta(hours=1).total_seconds(), ignore_result=True)
async def send_receipt(order_id: UUID, /, copies: int, *, reply_to: str | None = None) -> None:
    logger.info("%s %d %s", order_id, copies, reply_to)


@async_shared_task()
async def revenue(since: datetime, until: datetime | None = None) -> dict[str, Decimal]:
    query = select(Order.customer, func.sum(Order.total)).where(Order.paid_at >= since)
    if until is not None:
        query = query.where(Order.paid_at < until)
    rows = await db.session.execute(query.group_by(Order.customer))
    return {customer: total or Decimal() for customer, total in rows.tuples()}


def in_a_web_view(order_id: UUID) -> str | None:
    placed = place_order.delay(order_id, "Ada", [Line("tea", 2)])
    assert_type(placed, TypedResult[Order])
    assert_type(placed.get(timeout=3), Order)
    assert_type(price.delay("tea", currency="USD").get(), Decimal)
    assert_type(charge.delay(order_id, Decimal(3)), TypedResult[str])
    assert_type(charge.delay(order_id, amount=Decimal(3)).get(), str)
    assert_type(send_receipt.delay(order_id, 2, reply_to="a@b.c"), TypedResult[None])
    assert_type(revenue.delay(datetime.now(UTC)).get(), dict[str, Decimal])
    return placed.id


async def in_an_async_view(order_id: UUID) -> Decimal:
    charged = await charge.adelay(order_id, Decimal(3))
    assert_type(charged, TypedResult[str])
    assert_type(await charge.func(order_id, Decimal(3)), str)
    both = await asyncio.gather(price.func("tea"), revenue.func(datetime.now(UTC)))
    assert_type(both, tuple[Decimal, dict[str, Decimal]])
    client = assert_type(redis_client, redis.asyncio.Redis)
    assert_type(await client.get("tea"), bytes | str | None)
    async with db.scope():
        order = await db.session.scalar(select(Order).where(Order.id == order_id))
        assert_type(order, Order | None)
    return both[0]


def later(order_id: UUID, when: datetime) -> Sequence[AsyncResult[str]]:
    assert_type(charge.s(order_id, Decimal(3)), TypedSignature[str])
    assert_type(charge.si(order_id, amount=Decimal(3)), ImmutableSignature[str])
    one = charge.apply_async((order_id, Decimal(3)), eta=when, queue="night", priority=9)
    assert_type(one, TypedResult[str])
    price.apply_async(["tea"], {"currency": "EUR"}, headers={"attempt": 2, "tenant": "a"})
    price.apply(["tea"])
    price.map(["tea", "coffee"])
    price.map(sku for sku in ("tea", "coffee"))
    price.starmap([("tea",), ("coffee",)])
    price.starmap([["tea"], ["coffee"]])
    charge.starmap((each, Decimal(3)) for each in (order_id,))
    other = charge.apply_async(kwargs={"order_id": order_id, "amount": 3}, countdown=1.5)
    return [one, other]


def inventory() -> dict[str, AsyncTask[..., object]]:
    """Tasks of different parameters and results in one collection."""
    return {task.name: task for task in (price, place_order, charge, send_receipt, revenue)}

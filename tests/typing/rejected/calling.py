"""Calls of tasks that do not fit the function."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

from celery.result import AsyncResult
from tests.typing.accepted.parameters import index, nothing, optional, resize, tag
from tests.typing.accepted.shop import charge, place_order, price, revenue, send_receipt

from tomskit.celery import AsyncTask

order_id = uuid4()
amount = Decimal(3)


def many() -> None:
    price.map([1, 2])  # E: int for str
    resize.map(["a.png"])  # E: keyword-only crop has no default
    nothing.map([1])  # E: there are no parameters
    price.starmap([(1,)])  # E: int for str
    price.starmap([("tea", "EUR")])  # E: currency is keyword-only
    price.starmap(["tea"])  # E: a text is no tuple
    charge.starmap([(order_id, amount, 3)])  # E: one too many
    resize.starmap([("a.png",)])  # E: keyword-only crop has no default
    price.apply_async("tea")  # E: neither a tuple nor a list


def delay() -> None:
    price.delay()  # E: sku is missing
    price.delay(3)  # E: int for str
    price.delay("tea", "EUR")  # E: currency is keyword-only
    price.delay("tea", currency="GBP")  # E: not one of the literals
    price.delay("tea", curency="EUR")  # E: misspelt keyword
    price.delay("tea", sku="tea")  # E: sku given twice
    place_order.delay(order_id, "Ada", "tea")  # E: str for a sequence of lines
    place_order.delay(str(order_id), "Ada", [])  # E: str for UUID
    charge.delay(order_id)  # E: amount is missing, with bind=True
    charge.delay(None, order_id, amount)  # E: self is not a parameter of the call
    charge.delay(order_id, 3.5)  # E: float for Decimal, with bind=True
    send_receipt.delay(order_id=order_id, copies=1)  # E: order_id is positional-only
    send_receipt.delay(order_id, copies=None)  # E: None for int
    revenue.delay("2024-01-01")  # E: str for datetime
    nothing.delay(1)  # E: there are no parameters
    optional.delay(image="a.png")  # E: image is positional-only
    tag.delay("a.png", 1)  # E: *labels are str
    tag.delay("a.png", cat="high")  # E: **scores are float
    resize.delay("a.png", 1, 1)  # E: keyword-only crop has no default
    resize.delay("a.png", width="1", crop=True)  # E: str for int
    index.delay("a.png")  # E: str for list[str]


async def adelay() -> None:
    await price.adelay()  # E: sku is missing
    await price.adelay("tea", currency=1)  # E: int for a literal
    await charge.adelay(order_id, "3")  # E: str for Decimal
    await tag.adelay("a.png", cat=None)  # E: None for float
    await send_receipt.adelay(order_id)  # E: copies is missing
    price.adelay("tea")  # E: not awaited


async def func() -> None:
    await price.func(1)  # E: int for str
    await charge.func(charge, order_id, amount)  # E: func has its self already
    await resize.func("a.png", crop=None)  # E: None for bool
    n: int = await price.func("tea")  # E: Decimal is not int
    print(n)


def immutable_signature() -> None:
    price.si()  # E: sku is missing
    price.si("tea", "EUR")  # E: currency is keyword-only
    charge.si(order_id, amount=1.5)  # E: float for Decimal
    index.si(["a.png"], 1)  # E: too many


def options_of_a_call() -> None:
    price.apply_async(("tea",), contdown=3)  # E: misspelt option
    price.apply_async(("tea",), countdown="3")  # E: str for float
    price.apply_async(("tea",), eta="tomorrow")  # E: str for datetime


def results() -> None:
    a: str = price.delay("tea").get()  # E: Decimal is not str
    b: AsyncResult[str] = price.delay("tea")  # E: TypedResult[Decimal]
    c: int = nothing.delay().get()  # E: None is not int
    d: bytes = optional.delay().get()  # E: a tuple or None is not bytes
    e: dict[str, float] = revenue.delay(datetime.now(UTC)).get()  # E: Decimal is not float
    price.delay("tea").gett()  # E: no such method
    print(a, b, c, d, e)


def passing_tasks_around() -> None:
    f: AsyncTask[..., str] = index  # E: its result is int
    g: Callable[[UUID], AsyncResult[Decimal]] = price.delay  # E: wants str
    h: Callable[[str], Decimal] = price.func  # E: returns a coroutine
    print(f, g, h)

# A result that nobody waits for is as it should be here.
# mypy: disable-error-code="unused-awaitable"
"""A service as its authors write it who allow no Any at all, not even in an expression."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid4

from celery.exceptions import TimeoutError as CeleryTimeoutError
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from tomskit import TomsKitBaseSettings
from tomskit.celery import (
    AsyncCelery,
    AsyncRuntime,
    AsyncTask,
    AsyncTaskRunner,
    BoundTask,
    CallOptions,
    CeleryConfig,
    ImmutableSignature,
    PartialSignature,
    TaskRequest,
    TypedGroup,
    TypedResult,
    TypedSignature,
    async_shared_task,
    celery_context,
    chain,
    chord,
    group,
    register_orjson_serializer,
)
from tomskit.errors import TaskArgumentsError, TaskResultError
from tomskit.redis import RedisConfig
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import db


class Settings(TomsKitBaseSettings):
    BILLING_CURRENCY: str = "EUR"
    BILLING_TAX: float = 0.2


class MailProvider:
    name = "mail"

    async def startup(self) -> None: ...

    async def shutdown(self) -> None: ...

    @asynccontextmanager
    async def task_scope(self) -> AsyncGenerator[None]:
        yield


app = AsyncCelery(
    "billing",
    config=CeleryConfig(CELERY_BROKER_REDIS_HOST="redis", CELERY_TASK_TIME_LIMIT=60),
    database=DatabaseConfig(DB_HOST="db"),
    redis=RedisConfig(REDIS_HOST="redis"),
    providers=[MailProvider()],
)
settings = Settings(BILLING_CURRENCY="USD")


class Base(MappedAsDataclass, DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    balance: Mapped[Decimal]


class Usage(BaseModel):
    account: UUID
    minutes: int = 0


@dataclass(frozen=True)
class Invoice:
    account: UUID
    total: Decimal
    due: date


class GatewayError(Exception):
    pass


# -- tasks


@async_shared_task
async def measure(account: UUID, *, since: datetime | None = None) -> Usage:
    cached = await redis_client.get(f"usage:{account}")
    if cached is None:
        await redis_client.set(f"usage:{account}", 3, ex=60)
        await redis_client.hset(f"seen:{account}", "since", str(since))
        return Usage(account=account, minutes=3)
    return Usage(account=account, minutes=int(cached))


@async_shared_task(name="billing.invoice", queue="invoices", acks_late=True)
async def invoice(usage: Usage, rate: Decimal = Decimal("0.1")) -> Invoice:
    account = await db.session.get_one(Account, usage.account)
    account.balance -= rate * usage.minutes
    await db.session.commit()
    return Invoice(account.id, rate * usage.minutes, datetime.now(UTC).date())


@async_shared_task(bind=True, max_retries=5, autoretry_for=(OSError,), throws=(GatewayError,))
async def charge(self: BoundTask, /, bill: Invoice, *methods: str, **notes: str) -> str:
    self.update_state(state="CHARGING", meta={"account": str(bill.account)})
    if self.request.retries > 3:
        raise GatewayError(self.request.id or self.name)
    if bill.total < 0:
        raise self.retry(countdown=2.5, exc=GatewayError())
    return " ".join([*methods, *notes.values()])


@async_shared_task(ignore_result=True)
async def send_mail(text: str, /, to: str = "all") -> None:
    await asyncio.sleep(0)


@async_shared_task
async def total(invoices: list[Invoice]) -> Decimal:
    return sum((one.total for one in invoices), Decimal())


@async_shared_task
async def names(prefix: str = "") -> dict[UUID, str]:
    rows = await db.session.scalars(select(Account).where(Account.name.startswith(prefix)))
    return {account.id: account.name for account in rows}


@async_shared_task
async def clean_up() -> int:
    return await redis_client.delete("usage")


@async_shared_task
async def failed(task_id: str) -> None:
    await redis_client.sadd("failed", task_id)


@async_shared_task
async def failed_here(request: TaskRequest, exc: Exception, traceback: str) -> None:
    await redis_client.sadd("failed", f"{request.id} {exc} {traceback}")


# -- sending


def send(account: UUID, usage: Usage) -> str:
    sent = measure.delay(account, since=datetime.now(UTC))
    later = invoice.options(countdown=3, queue="night").delay(usage, rate=Decimal(3))
    options: CallOptions = {"priority": 3}
    urgent = measure.options(**options).delay(account)
    applied = invoice.apply_async((usage,), {"rate": Decimal(3)}, expires=60)
    send_mail.delay("hello", to="ada")
    charge.options(link=clean_up.si(), link_error=failed.s()).delay(later.get(), "card", by="ada")
    print(sent.id, sent.state, urgent.ready(), applied.successful(), app.main)
    return sent.get(timeout=3).model_dump_json()


async def send_from_a_coroutine(account: UUID) -> Decimal:
    usage = await measure.adelay(account)
    print((await invoice.aapply_async((await usage,), countdown=1)).id)
    found = await usage
    bill = await (await invoice.options(queue="x").adelay(found)).aget(timeout=3)
    here = await invoice.func(found)
    both = await asyncio.gather(measure.func(account), names.func("a"))
    print(both[0].minutes, both[1].get(account))
    try:
        reference = await charge.func(bill, "card")
    except (GatewayError, TaskArgumentsError, TaskResultError, CeleryTimeoutError):
        reference = ""
    print(reference, celery_context.get())
    return here.total + bill.total


def read(task_id: str) -> int:
    result = measure.AsyncResult(task_id)
    if result.ready():
        outcome = result.result
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome.minutes
    if result.failed():
        result.forget()
    result.revoke(terminate=True)
    return result.get(timeout=1.5, propagate=False).minutes


# -- workflows


def tie_together(account: UUID, accounts: Sequence[UUID], usage: Usage) -> list[Invoice]:
    pipe = measure.s(account) | invoice.s(Decimal(2)) | charge.s("card")
    steps = chain(measure.s(account), invoice.s(), charge.p("card", by="ada"), clean_up.si())
    tail: PartialSignature[Usage, str] = invoice.s() | charge.s()
    together = group(measure.s(one) for one in accounts)
    bills = group(measure.s(one) | invoice.s() for one in accounts)
    summed = chord(bills, total.s()) | clean_up.si()
    summed_too = chord((measure.s(one) | invoice.s() for one in accounts), total.s())
    mixed = group(measure.s(account), names.s())
    spread = measure.s(account) | group(invoice.s(), invoice.s(Decimal(3))) | total.s()
    print(pipe.set(queue="x", countdown=3).on_error(failed.s()).delay().get())
    print(steps.apply_async(priority=3).id, tail.delay(usage).get(), spread.delay().get())
    print(summed.delay().get() + 1, summed_too.delay().get(), mixed.delay().get()[0])
    measure.s(account).link(invoice.s())
    measure.s(account).on_error(failed_here.signature()).delay()
    results = together.delay()
    for result in results:
        print(result.id, result.get().minutes)
    print(
        results[0].get(),
        len(results),
        results.completed_count(),
        [u.minutes for u in results.get()],
    )
    return bills.delay().get(timeout=3)


async def wait_for_them(accounts: Iterable[UUID]) -> int:
    results = await group(measure.si(one) for one in accounts).adelay()
    found = await results
    again = await results.aget(timeout=3)
    last = await (await (clean_up.si() | names.si("a")).adelay())
    return sum(usage.minutes for usage in found + again) + len(last)


def eagerly(account: UUID) -> str:
    done = measure.apply((account,), throw=True)
    chained = (measure.s(account) | invoice.s()).apply()
    return f"{done.get().minutes} {chained.get().total} {done.state}"


# -- helpers


def in_the_night(signature: TypedSignature[Invoice]) -> TypedResult[Invoice]:
    return signature.set(queue="night").delay()


def all_of(tasks: Iterable[AsyncTask[[], int]]) -> TypedGroup[int]:
    return group(task.si() for task in tasks)


def cleaned(first: ImmutableSignature[int]) -> TypedSignature[dict[UUID, str]]:
    return first | names.si()


def registered() -> dict[str, BoundTask]:
    return {task.name: task for task in (measure, invoice, charge, send_mail, total)}


def by_hand(account: UUID) -> int:
    runner = AsyncTaskRunner(measure.func, use_redis=True)
    print(AsyncRuntime.run(names.func()), register_orjson_serializer(), settings.BILLING_TAX)
    return runner.run(account, since=None).minutes


print(in_the_night(measure.s(uuid4()) | invoice.s()).id, all_of([clean_up]), cleaned(clean_up.si()))

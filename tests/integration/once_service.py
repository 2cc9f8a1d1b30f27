"""A bank whose tasks commit once and send on commit, configured by environment."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celery.exceptions import Ignore, Reject
from sqlalchemy import Column, Integer, MetaData, String, Table, delete, insert, update

from tests.support.gaps import longest_gap
from tomskit.celery import AsyncCelery, BoundTask, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy.database import db

app = AsyncCelery("once", config=CeleryConfig(), set_as_current=False)
if visibility := os.environ.get("ONCE_VISIBILITY_TIMEOUT"):
    app.conf.update(
        broker_transport_options={
            "visibility_timeout": float(visibility),
            # Celery looks every 100 s for what is to be delivered again, and takes 10 messages then.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "unacked_restore_limit": 1000,
            # One that is killed while it does so would keep others from it for five minutes.
            "unacked_mutex_expire": 5,
        }
    )

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("balance", Integer, nullable=False),
)
transfers = Table(
    "transfers",
    metadata,
    Column("row", Integer, primary_key=True),
    Column("name", String(100), nullable=False),
)
receipts = Table(
    "receipts",
    metadata,
    Column("row", Integer, primary_key=True),
    Column("name", String(100), nullable=False),
)


@dataclass(frozen=True)
class Moved:
    name: str
    amount: int
    at: datetime


@async_shared_task(once=True)
async def receipt(name: str) -> str:
    await db.session.execute(insert(receipts).values(name=name))
    return name


@async_shared_task(acks_late=True, reject_on_worker_lost=True)
async def plain_receipt(name: str) -> str:
    await db.session.execute(insert(receipts).values(name=name))
    await db.session.commit()
    return name


async def move(name: str, source: int, target: int, amount: int) -> None:
    await db.session.execute(insert(transfers).values(name=name))
    # Always in the same order, so that no two transfers wait for each other.
    changes = sorted([(source, -amount), (target, amount)])
    for account, change in changes:
        await db.session.execute(
            update(accounts)
            .where(accounts.c.id == account)
            .values(balance=accounts.c.balance + change)
        )


@async_shared_task
async def send_and_die(name: str) -> None:
    """Commit a message, and be killed before it can be published."""
    receipt.delay_on_commit(name)
    await db.session.commit()
    os.kill(os.getpid(), signal.SIGKILL)


@async_shared_task(once=True)
async def transfer(name: str, source: int, target: int, amount: int) -> Moved:
    await move(name, source, target, amount)
    receipt.delay_on_commit(name)
    return Moved(name, amount, datetime.now(UTC))


@async_shared_task(acks_late=True, reject_on_worker_lost=True)
async def plain_transfer(name: str, source: int, target: int, amount: int) -> str:
    """The same as it is written without ``once``."""
    await move(name, source, target, amount)
    await db.session.commit()
    await plain_receipt.adelay(name)
    return name


@async_shared_task(once=True)
async def doubled(moved: Moved) -> int:
    await db.session.execute(insert(transfers).values(name=f"doubled {moved.name}"))
    return moved.amount * 2


@async_shared_task(once=True, ignore_result=True)
async def note(name: str) -> None:
    await db.session.execute(insert(transfers).values(name=name))


@async_shared_task(once=True, bind=True, max_retries=5, default_retry_delay=0)
async def stubborn(self: BoundTask, name: str, *, fails: int) -> int:
    await db.session.execute(insert(transfers).values(name=name))
    receipt.delay_on_commit(name)
    if self.request.retries < fails:
        raise self.retry()
    return self.request.retries


@async_shared_task(
    once=True,
    bind=True,
    autoretry_for=(KeyError,),
    default_retry_delay=0,
    retry_jitter=False,
    max_retries=5,
)
async def automatic(self: BoundTask, name: str, *, fails: int) -> int:
    await db.session.execute(insert(transfers).values(name=name))
    receipt.delay_on_commit(name)
    if self.request.retries < fails:
        raise KeyError(name)
    return self.request.retries


@async_shared_task(once=True)
async def fails(name: str) -> None:
    await db.session.execute(insert(transfers).values(name=name))
    receipt.delay_on_commit(name)
    raise KeyError(name)


@async_shared_task(once=True)
async def commits(name: str) -> str:
    await db.session.execute(insert(transfers).values(name=name))
    await db.session.commit()
    return name


@async_shared_task(once=True)
async def begins(name: str) -> str:
    async with db.session.begin():
        await db.session.execute(insert(transfers).values(name=name))
    return name


@async_shared_task(once=True)
async def savepoints(name: str) -> str:
    async with db.session.begin_nested():
        await db.session.execute(insert(transfers).values(name=name))
    inner = await db.session.begin_nested()
    await db.session.execute(insert(transfers).values(name="never"))
    receipt.delay_on_commit("never")
    await inner.rollback()
    return name


@async_shared_task(once=True, soft_time_limit=1, time_limit=30)
async def sleeps(name: str) -> None:
    await db.session.execute(insert(transfers).values(name=name))
    await asyncio.sleep(60)


@async_shared_task(once=True, time_limit=1)
async def sleeps_too_long(name: str) -> None:
    await db.session.execute(insert(transfers).values(name=name))
    receipt.delay_on_commit(name)
    await asyncio.sleep(60)


@async_shared_task(once=True, bind=True)
async def replaced(self: BoundTask, name: str) -> int:
    """Leave the result to another task, which has this one's id."""
    await db.session.execute(insert(transfers).values(name="never"))
    receipt.delay_on_commit("never")
    of_celery: Any = self
    of_celery.replace(doubled.s(Moved(name, 4, datetime.now(UTC))))
    raise AssertionError("replace raises")


@async_shared_task(once=True)
async def ignored(name: str) -> None:
    await db.session.execute(insert(transfers).values(name=name))
    receipt.delay_on_commit(name)
    raise Ignore


@async_shared_task(once=True)
async def rejected(name: str, key: str) -> str:
    """Reject the first delivery, so that the message comes again."""
    await db.session.execute(insert(transfers).values(name=name))
    receipt.delay_on_commit(name)
    if await redis_client.incr(key) == 1:
        raise Reject(name, requeue=True)
    return name


@async_shared_task(once=True)
async def dies_once(name: str, key: str) -> str:
    """Kill the process at the first delivery, after the work and before the commit."""
    await db.session.execute(insert(transfers).values(name=name))
    receipt.delay_on_commit(name)
    await db.session.flush()
    if await redis_client.incr(key) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


@async_shared_task
async def total(moved: list[Moved]) -> int:
    return sum(one.amount for one in moved)


@async_shared_task(once=True)
async def note_with_result(name: str) -> None:
    await db.session.execute(insert(transfers).values(name=name))


@async_shared_task(once=True)
async def crossing(name: str, first: int, second: int) -> None:
    """Lock two accounts, in the order that was asked for."""
    await db.session.execute(insert(transfers).values(name=name))
    for account in (first, second):
        await db.session.execute(
            update(accounts).where(accounts.c.id == account).values(balance=accounts.c.balance + 0)
        )
        await asyncio.sleep(0.02)


@async_shared_task(once=True)
async def waits(name: str, key: str) -> str:
    await db.session.execute(insert(transfers).values(name=name))
    receipt.delay_on_commit(name)
    await redis_client.set(f"{key}-in", "1")
    while await redis_client.get(f"{key}-go") is None:  # noqa: ASYNC110 (a server is asked)
        await asyncio.sleep(0.02)
    return name


@async_shared_task(ignore_result=True)
async def watch() -> None:
    """How late the loop has ever been, as ``gap``, until somebody sets the key ``watched``."""

    async def is_over() -> bool:
        await redis_client.incr("looks")
        return bool(await redis_client.get("watched"))

    await redis_client.set("gap", await longest_gap(is_over))


# -- what it costs


@async_shared_task(ignore_result=True, acks_late=True)
async def cost_plain(name: str, source: int, target: int) -> None:
    await change(source, target)
    await db.session.commit()


@async_shared_task(ignore_result=True, once=True)
async def cost_once(name: str, source: int, target: int) -> None:
    await change(source, target)


@async_shared_task(ignore_result=True, once=True)
async def cost_both(name: str, source: int, target: int) -> None:
    await change(source, target)
    nobody.delay_on_commit(name)


@async_shared_task(ignore_result=True, acks_late=True)
async def cost_by_hand(name: str, source: int, target: int) -> None:
    """As it is written without once: a mark, an outbox, and a message that is sent after the commit."""
    await change(source, target)
    key = f"{name} {source} {target}"
    await db.session.execute(insert(transfers).values(name=f"mark {key}"))
    await db.session.execute(insert(receipts).values(row=abs(hash(key)) % 2**31, name=key))
    await db.session.commit()
    await nobody.adelay(name)
    await db.session.execute(delete(receipts).where(receipts.c.row == abs(hash(key)) % 2**31))
    await db.session.commit()


@async_shared_task(ignore_result=True, queue="nobody")
async def nobody(name: str) -> None:
    """Waits in a queue that no worker reads."""


async def change(source: int, target: int) -> None:
    for account in (source, target):
        await db.session.execute(
            update(accounts).where(accounts.c.id == account).values(balance=accounts.c.balance + 1)
        )

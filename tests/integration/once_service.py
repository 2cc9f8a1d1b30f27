"""A bank whose tasks commit once and send on commit, configured by environment."""

from __future__ import annotations

import os
import signal

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, update

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.sqlalchemy.database import db

app = AsyncCelery("once", config=CeleryConfig())

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


@async_shared_task
async def receipt(name: str) -> str:
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

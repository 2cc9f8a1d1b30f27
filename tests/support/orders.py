"""A table of orders, and tasks that are run as a worker runs them, for tests of what commits once."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select, update

from tomskit.celery import AsyncRuntime
from tomskit.sqlalchemy.database import db

_own: Final = MetaData()
orders: Final = Table(
    "orders",
    _own,
    Column("name", String(50), primary_key=True),
    Column("count", Integer, nullable=False, default=0),
)

runs: list[str] = []
"""What bodies have begun."""


async def make_tables() -> None:
    await db.create_tables()
    async with db.engine.begin() as connection:
        await connection.run_sync(_own.create_all)


def run(made: Any, *args: object, task_id: str = "one") -> Any:
    """Run a task as a worker does that has got its message; returns its EagerResult."""
    return made.apply(args, task_id=task_id)


async def rows_of(table: Table) -> int:
    async with db.scope():
        return await db.session.scalar(select(func.count()).select_from(table)) or 0


def count(table: Table) -> int:
    return AsyncRuntime.run(rows_of(table))


async def place_orders(*names: str) -> None:
    async with db.scope():
        await db.session.execute(insert(orders), [{"name": name} for name in names])
        await db.session.commit()


async def touch(name: str) -> None:
    """Count an order once more, in the transaction here."""
    await db.session.execute(
        update(orders).where(orders.c.name == name).values(count=orders.c.count + 1)
    )


def counts() -> dict[str, int]:
    """How often each order was counted."""

    async def find() -> dict[str, int]:
        async with db.scope():
            found = await db.session.execute(select(orders.c.name, orders.c.count))
            return {str(row[0]): int(row[1]) for row in found}

    return AsyncRuntime.run(find())

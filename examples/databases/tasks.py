"""A task that reads one database and writes the other."""

from datetime import date

from app import reports
from models import Report, Sale
from sqlalchemy import func, select

from tomskit.celery import async_shared_task
from tomskit.sqlalchemy.database import db


@async_shared_task
async def sell(cents: int) -> None:
    db.session.add(Sale(cents=cents))
    await db.session.commit()


@async_shared_task
async def report(day: date) -> int:
    sold = await db.session.scalar(select(func.sum(Sale.cents))) or 0
    await reports.session.merge(Report(day=day, cents=sold))
    await reports.session.commit()
    return sold

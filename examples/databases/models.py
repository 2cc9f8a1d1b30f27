"""The tables of both databases: ``python models.py`` creates them."""

from datetime import date

from app import reports
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tomskit.celery import AsyncRuntime
from tomskit.sqlalchemy.database import db


class Base(DeclarativeBase):
    pass


class ReportBase(DeclarativeBase):
    pass


class Sale(Base):
    __tablename__ = "sales"

    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]


class Report(ReportBase):
    __tablename__ = "reports"

    day: Mapped[date] = mapped_column(primary_key=True)
    cents: Mapped[int]


async def create_tables() -> None:
    for database, base in ((db, Base), (reports, ReportBase)):
        async with database.engine.begin() as connection:
            await connection.run_sync(base.metadata.create_all)


if __name__ == "__main__":
    AsyncRuntime.run(create_tables())

"""The tables."""

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tomskit.sqlalchemy.database import db


class Base(DeclarativeBase):
    """Base of all models."""


class User(Base):
    """A person who has signed up."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)


async def create_tables() -> None:
    """Create missing tables. A larger project uses migrations instead."""
    async with db.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)

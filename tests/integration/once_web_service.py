"""A web application whose requests send tasks on commit; `once_service` is what its worker runs."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tests.integration import once_service as service
from tomskit.sqlalchemy import DatabaseProvider
from tomskit.sqlalchemy.database import db


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    # Not when this module is imported, as tests do.
    service.app.set_default()
    provider = DatabaseProvider(service.app.db_config)
    await provider.startup()
    try:
        yield
    finally:
        await provider.shutdown()


async def session() -> AsyncIterator[AsyncSession]:
    async with db.scope():
        yield db.session


Session = Annotated[AsyncSession, Depends(session)]
api = FastAPI(lifespan=lifespan)


@api.post("/commit/{name}")
async def commit(name: str, session: Session) -> str:
    await session.execute(insert(service.transfers).values(name=name))
    sent = service.receipt.delay_on_commit(name)
    await session.commit()
    return sent.id


@api.post("/fail/{name}")
async def fail(name: str, session: Session) -> str:
    await session.execute(insert(service.transfers).values(name=name))
    service.receipt.delay_on_commit(name)
    raise KeyError(name)


@api.post("/roll-back/{name}")
async def roll_back(name: str, session: Session) -> str:
    await session.execute(insert(service.transfers).values(name=name))
    service.receipt.delay_on_commit(name)
    await session.rollback()
    return name


@api.post("/die/{name}")
async def die(name: str, session: Session) -> None:
    """Commit, and end before anything can be published."""
    await session.execute(insert(service.transfers).values(name=name))
    service.receipt.delay_on_commit(name)
    await session.commit()
    os._exit(9)

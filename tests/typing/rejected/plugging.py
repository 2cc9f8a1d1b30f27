"""Runtimes, providers and serializers of the wrong shape, and where they would be used."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import TypeVar

from celery import Celery
from sqlalchemy.orm import Session
from tests.typing.accepted.plugins import LoopPerCall, MailProvider
from tests.typing.accepted.shop import price
from tests.typing.accepted.wiring import app, log_in, stock

from tomskit.celery import AsyncCelery, AsyncRuntime, AsyncTaskRunner, CeleryConfig, celery_context
from tomskit.protocols import ResourceProvider, Runtime, Serializer
from tomskit.redis import RedisConfig
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import db

T = TypeVar("T")

# -- runtimes


class OnlyInts:
    def init(self, app: Celery) -> None: ...
    def run(self, coro: Coroutine[object, object, int], /) -> int:
        return 1

    def shutdown(self) -> None: ...


class Endless:
    def init(self, app: Celery) -> None: ...
    def run(self, coro: Coroutine[object, object, T], /) -> T:
        raise NotImplementedError


class AsyncRun:
    def init(self, app: Celery) -> None: ...
    async def run(self, coro: Coroutine[object, object, T], /) -> T:
        return await coro

    def shutdown(self) -> None: ...


def runtimes() -> None:
    a: Runtime = OnlyInts()  # E: run is not generic
    b: Runtime = Endless()  # E: no shutdown
    c: Runtime = AsyncRun()  # E: run is async
    d: Runtime = LoopPerCall  # E: a class whose methods are not class methods
    AsyncCelery(runtime=OnlyInts())  # E: run is not generic
    AsyncCelery(runtime="asyncio")  # E: a name
    print(a, b, c, d)


# -- providers


class Nameless:
    async def startup(self) -> None: ...
    async def shutdown(self) -> None: ...
    def task_scope(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class Numbered(Nameless):
    name = 3


class SyncStartup:
    name = "sync"

    def startup(self) -> None: ...
    async def shutdown(self) -> None: ...
    def task_scope(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class SyncScope:
    name = "sync"

    async def startup(self) -> None: ...
    async def shutdown(self) -> None: ...
    def task_scope(self) -> AbstractContextManager[None]:
        return nullcontext()


def providers() -> None:
    a: ResourceProvider = Nameless()  # E: no name
    b: ResourceProvider = Numbered()  # E: the name is a number
    c: ResourceProvider = SyncStartup()  # E: startup is not async
    d: ResourceProvider = SyncScope()  # E: the scope is not async
    e: ResourceProvider = MailProvider  # E: the class instead of an object
    AsyncCelery(providers=[Nameless()])  # E: no name
    AsyncCelery(providers=MailProvider("a"))  # E: not a list
    print(a, b, c, d, e)


# -- serializers


class Numeric:
    name = "numeric"
    content_type = 3
    content_encoding = "utf-8"

    def dumps(self, obj: object, /) -> str:
        return str(obj)

    def loads(self, data: str | bytes, /) -> object:
        return data


class Dumb:
    name = "dumb"
    content_type = "text/plain"
    content_encoding = "utf-8"

    def dumps(self, obj: object, /) -> int:
        return 1

    def loads(self, data: str | bytes, /) -> object:
        return data


class TextOnly:
    name = "text"
    content_type = "text/plain"
    content_encoding = "utf-8"

    def dumps(self, obj: object, /) -> str:
        return str(obj)

    def loads(self, data: str, /) -> object:
        return data


class Typeless:
    name = "typeless"

    def dumps(self, obj: object, /) -> str:
        return str(obj)

    def loads(self, data: str | bytes, /) -> object:
        return data


def serializers() -> None:
    a: Serializer = Dumb()  # E: dumps returns int
    b: Serializer = TextOnly()  # E: loads does not take bytes
    c: Serializer = Typeless()  # E: no content type
    d: Serializer = Numeric()  # E: its content type is a number
    AsyncCelery(serializer=Dumb())  # E: dumps returns int
    AsyncCelery(serializer="orjson")  # E: a name
    print(a, b, c, d)


# -- running


def running() -> None:
    AsyncRuntime.run(stock)  # E: the function instead of a coroutine
    AsyncRuntime.run(stock())  # E: sku is missing
    AsyncRuntime.run(3)  # E: not a coroutine
    AsyncRuntime.run(price.delay("tea"))  # E: a result, not a coroutine
    a: str = AsyncRuntime.run(stock("tea"))  # E: dict is not str
    AsyncRuntime.init("shop")  # E: a name
    AsyncTaskRunner(stock).run()  # E: sku is missing
    AsyncTaskRunner(stock).run(1)  # E: int for str
    AsyncTaskRunner(stock).run("tea", 1)  # E: reserve is keyword-only
    AsyncTaskRunner(log_in).run(wait=True)  # E: no such parameter
    AsyncTaskRunner(stock("tea"))  # E: the coroutine instead of the function
    AsyncTaskRunner(len)  # E: not a coroutine function
    AsyncTaskRunner(price)  # E: a task; its func would do
    AsyncTaskRunner(stock, use_dbs=True)  # E: misspelt
    b: list[str] = AsyncTaskRunner(stock).run("tea")  # E: dict is not list
    print(a, b)


# -- the app, the database and redis


def configuring() -> None:
    AsyncCelery(config=DatabaseConfig())  # E: not a CeleryConfig
    AsyncCelery(database=RedisConfig())  # E: not a DatabaseConfig
    AsyncCelery(redis="redis://localhost")  # E: a URL
    CeleryConfig(CELERY_BROKER_REDIS_PORT="x")  # E: str for int
    CeleryConfig(CELERY_BROKER_REDIS_PASSWORD=1)  # E: int for a password
    CeleryConfig(CELERY_BROKER_REDIS_PORT=[6379])  # E: list for int
    CeleryConfig(CELERY_BROKER_REDIS_PROT=6379)  # E: misspelt
    CeleryConfig(CELERY_RESULT_BACKEND_TYPE="mongodb")  # E: not one of the literals
    n: str = app.config.CELERY_BROKER_REDIS_PORT  # E: int is not str
    CeleryConfig(CELERY_BROKER_URL=6379)  # E: int for a URL
    app.config.CELERY_BROKER_URL = "redis://"  # E: computed
    print(celery_context.get().main)  # E: may be None
    celery_context.set("shop")  # E: a name
    print(n)


async def resources() -> None:
    a: Session = db.session  # E: an AsyncSession
    db.session()  # E: a session, not a factory
    n: int = await redis_client.get("k")  # E: text or None
    await redis_client.gett("k")  # E: no such command
    db.session = a  # E: read-only
    print(n)

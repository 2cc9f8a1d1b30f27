"""The one module of a service that puts everything together."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import assert_type

from celery import Celery
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession
from tests.typing.accepted.plugins import (
    LoopPerCall,
    MailProvider,
    MetricsProvider,
    OneForAll,
    PickleSerializer,
    ReprSerializer,
    SearchProvider,
)

from tomskit import TomsKitBaseSettings
from tomskit.celery import (
    AsyncCelery,
    AsyncRuntime,
    AsyncTaskRunner,
    CeleryConfig,
    celery_context,
    register_orjson_serializer,
)
from tomskit.celery.serializers import OrjsonSerializer
from tomskit.protocols import ResourceProvider, Runtime, Serializer
from tomskit.redis import RedisConfig, RedisProvider
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider
from tomskit.sqlalchemy.database import db

config = CeleryConfig(
    CELERY_BROKER_REDIS_HOST="redis.internal",
    CELERY_BROKER_REDIS_PORT=6380,
    CELERY_BROKER_REDIS_PASSWORD="s p",
    CELERY_RESULT_BACKEND_TYPE="database",
    CELERY_ACCEPT_CONTENT=["json", "orjson"],
    CELERY_TASK_TIME_LIMIT=60,
    CELERY_SQLALCHEMY_POOL_SIZE=5,
)
app = AsyncCelery(
    "shop",
    config=config,
    database=DatabaseConfig(DB_HOST="db.internal", DB_PORT=3306),
    redis=RedisConfig(REDIS_HOST="redis.internal", REDIS_DB=2),
    runtime=AsyncRuntime,
    providers=[SearchProvider(), MailProvider("a"), MetricsProvider()],
    serializer=PickleSerializer(),
    include=["shop.tasks"],
)


class ShopConfig(CeleryConfig):
    SHOP_CURRENCY: str = "EUR"


class PlainConfig(TomsKitBaseSettings):
    SHOP_NAME: str
    SHOP_TAX: float = 0.2


def the_app() -> None:
    assert_type(app.config, CeleryConfig)
    assert_type(app.config.CELERY_BROKER_URL, str)
    assert_type(app.config.CELERY_BROKER_REDIS_PORT, int)
    assert_type(app.config.CELERY_BROKER_REDIS_PASSWORD, str | None)
    assert_type(CeleryConfig(CELERY_BROKER_URL="redis://h").CELERY_BROKER_URL, str)
    assert_type(RedisConfig(REDIS_URL="redis://h").REDIS_URL, str)
    assert_type(
        DatabaseConfig(SQLALCHEMY_DATABASE_URI="sqlite+aiosqlite://").SQLALCHEMY_DATABASE_URI, str
    )
    assert_type(RedisConfig(REDIS_PASSWORD=SecretStr("s p")).REDIS_PASSWORD, str | None)
    assert_type(DatabaseConfig(DB_PASSWORD=SecretStr("s p")).DB_PASSWORD, str)
    assert_type(app.db_config, DatabaseConfig)
    assert_type(app.db_config.SQLALCHEMY_DATABASE_URI, str)
    assert_type(app.redis_config, RedisConfig)
    assert_type(app.task_id_context, ContextVar[str | None])
    assert_type(celery_context.get(), AsyncCelery | None)
    assert_type(register_orjson_serializer(), bool)
    plain: Celery = app
    plain.config_from_object(config)
    assert_type(ShopConfig(SHOP_CURRENCY="USD", CELERY_TIMEZONE="UTC").SHOP_CURRENCY, str)
    assert_type(PlainConfig(SHOP_NAME="tea").SHOP_TAX, float)


def other_apps() -> list[AsyncCelery]:
    return [
        AsyncCelery(),
        AsyncCelery("a", broker="redis://localhost", backend="redis://localhost"),
        AsyncCelery("b", runtime=LoopPerCall(), serializer=ReprSerializer("repr")),
        AsyncCelery("c", runtime=OneForAll, providers=(MailProvider(h) for h in "ab")),
        AsyncCelery("d", providers=[DatabaseProvider(DatabaseConfig())]),
    ]


runtimes: list[Runtime] = [LoopPerCall(), OneForAll(), OneForAll, AsyncRuntime, AsyncRuntime()]
providers: list[ResourceProvider] = [
    SearchProvider(),
    MailProvider("b"),
    MetricsProvider(),
    DatabaseProvider(DatabaseConfig()),
    RedisProvider(RedisConfig()),
]
serializers: list[Serializer] = [PickleSerializer(), ReprSerializer("r"), OrjsonSerializer()]


async def stock(sku: str, *, reserve: int = 0) -> dict[str, int]:
    assert_type(db.session, AsyncSession)
    return {sku: reserve}


async def log_in() -> None:
    await asyncio.sleep(0)


def with_any_runtime(runtime: Runtime) -> dict[str, int]:
    runtime.init(app)
    found = runtime.run(stock("tea"))
    assert_type(found, dict[str, int])
    runtime.shutdown()
    return found


def running() -> None:
    assert_type(AsyncRuntime.run(stock("tea", reserve=1)), dict[str, int])
    assert_type(AsyncRuntime.run(log_in()), None)
    assert_type(AsyncRuntime.run(asyncio.wait_for(stock("tea"), 3)), dict[str, int])
    assert_type(AsyncTaskRunner(stock).run("tea"), dict[str, int])
    assert_type(AsyncTaskRunner(stock, use_db=False).run("tea", reserve=2), dict[str, int])
    assert_type(AsyncTaskRunner(log_in, True, use_redis=True).run(), None)
    assert_type(with_any_runtime(AsyncRuntime), dict[str, int])
    assert_type(with_any_runtime(LoopPerCall()), dict[str, int])


async def by_hand() -> None:
    provider = DatabaseProvider(DatabaseConfig())
    await provider.startup()
    async with provider.task_scope(), db.scope() as scope:
        assert_type(scope.session, AsyncSession)
    await provider.shutdown()

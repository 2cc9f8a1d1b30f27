"""A client of a Redis behind proxies, and a store and a queue as a worker sees them."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from celery import states

from tests.support.deployment import close_client
from tests.support.patience import patience
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tests.support.settings import build
from tomskit.celery import AsyncCelery
from tomskit.celery._client.result import TypedResult

T = TypeVar("T")

SECONDS = 2.0
"""The timeout of sockets. A busy machine answers within it."""


@dataclass
class ClientPlace:
    """An app behind proxies, and a store and a queue as a worker sees them."""

    app: AsyncCelery
    server: RedisServer
    broker: Proxy
    results: Proxy
    worker: AsyncCelery

    def store(self, task_id: str, value: int) -> None:
        self.worker.backend.store_result(task_id, value, states.SUCCESS)

    def result(self, task_id: str) -> Any:
        return TypedResult[int](task_id, app=self.app)

    async def send(self) -> None:
        await self.app.async_client.send(lambda: self.app.send_task("nothing"))

    def queued(self) -> int:
        with self.server.client(0) as client:
            length: int = client.llen("celery")
            return length

    def subscribed(self, task_id: str) -> bool:
        key = cast("Any", self.worker.backend).get_key_for_task(task_id).decode()
        with self.server.client(0) as client:
            channels: list[str] = cast("Any", client).pubsub_channels()
            return key in channels

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async def main() -> T:
            async with asyncio.timeout(patience(60)):
                return await function()

        return asyncio.run(main())


@contextmanager
def client_of(broker: tuple[str, int], results: tuple[str, int], **more: object) -> Generator[Any]:
    config = build(
        CELERY_BROKER_REDIS_HOST=broker[0],
        CELERY_BROKER_REDIS_PORT=broker[1],
        CELERY_RESULT_BACKEND_REDIS_HOST=results[0],
        CELERY_RESULT_BACKEND_REDIS_PORT=results[1],
        CELERY_BROKER_SOCKET_TIMEOUT=SECONDS,
        CELERY_BROKER_SOCKET_CONNECT_TIMEOUT=SECONDS,
        CELERY_RESULT_SOCKET_TIMEOUT=SECONDS,
        CELERY_RESULT_SOCKET_CONNECT_TIMEOUT=SECONDS,
        **more,
    )
    app = AsyncCelery("faults-client", config=config, set_as_current=False)
    try:
        yield app
    finally:
        close_client(app)


@contextmanager
def client_place(server: RedisServer, **more: object) -> Generator[ClientPlace]:
    """An app behind proxies of a server, which is emptied before. More settings are those of the app."""
    server.flush()
    direct = (server.host, server.port)
    with (
        Proxy(*direct) as broker,
        Proxy(*direct) as results,
        client_of((broker.host, broker.port), (results.host, results.port), **more) as app,
        client_of(direct, direct) as worker,
    ):
        yield ClientPlace(app, server, broker, results, worker)

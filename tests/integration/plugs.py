"""A runtime, providers and a serializer of a user's own. Nothing here imports tomskit."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import redis.asyncio
from celery import Celery
from typing_extensions import override

T = TypeVar("T")


class ThreadRuntime:
    """A loop in a thread, written as anybody would."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None

    @override
    def __reduce__(self) -> tuple[type["ThreadRuntime"], tuple[()]]:
        return ThreadRuntime, ()

    def init(self, celery_app: Celery) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="my-runtime", daemon=True).start()
        print(f"my runtime started for {celery_app.main}", flush=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def shutdown(self) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.loop.stop)
        print("my runtime stopped", flush=True)


class RunRuntime:
    """A new loop for each call: the shortest runtime that there is."""

    def init(self, app: Celery) -> None:
        pass

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(coro)

    def shutdown(self) -> None:
        pass


class NamedConnection:
    """Connects to Redis at start-up, under a name that the server shows."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clients: dict[asyncio.AbstractEventLoop, redis.asyncio.Redis] = {}

    async def startup(self) -> None:
        client = redis.asyncio.Redis(
            host=os.environ["CELERY_BROKER_REDIS_HOST"],
            port=int(os.environ["CELERY_BROKER_REDIS_PORT"]),
            client_name=self.name,
            single_connection_client=True,
        )
        self.clients[asyncio.get_running_loop()] = client
        await client.get("anything")
        print(f"provider {self.name} started", flush=True)

    async def shutdown(self) -> None:
        await self.clients.pop(asyncio.get_running_loop()).aclose()
        print(f"provider {self.name} stopped", flush=True)

    @asynccontextmanager
    async def task_scope(self) -> AsyncGenerator[None]:
        print(f"provider {self.name} enters", flush=True)
        try:
            yield
        finally:
            print(f"provider {self.name} leaves", flush=True)


class Broken(NamedConnection):
    """Does not start, or fails in each task, as the environment says."""

    @override
    async def startup(self) -> None:
        if os.environ["BROKEN"] == "startup":
            message = "the licence server said no"
            raise ConnectionError(message)
        await super().startup()

    @override
    @asynccontextmanager
    async def task_scope(self) -> AsyncGenerator[None]:
        if os.environ["BROKEN"] == "enter":
            message = "no licence left"
            raise RuntimeError(message)
        try:
            yield
        finally:
            if os.environ["BROKEN"] == "leave":
                message = "the licence cannot be given back"
                raise RuntimeError(message)


class ReversedJson:
    """JSON, written backwards, so that nobody else can read it."""

    name = "backwards"
    content_type = "application/x-backwards"
    content_encoding = "utf-8"

    def dumps(self, value: object) -> str:
        return json.dumps(value)[::-1]

    def loads(self, text: str | bytes) -> object:
        return json.loads((text.decode() if isinstance(text, bytes) else text)[::-1])

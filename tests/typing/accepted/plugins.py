"""A user's own runtime, resources and serializers. Imports nothing of tomskit, nor has to."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

if TYPE_CHECKING:
    from celery import Celery

T = TypeVar("T")


class LoopPerCall:
    """A runtime as one writes it first."""

    def init(self, app: Celery) -> None: ...

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(coro)

    def shutdown(self) -> None: ...


class OneForAll:
    """A runtime that is used as a class."""

    apps: ClassVar[list[Celery]] = []

    @classmethod
    def init(cls, celery_app: Celery, /) -> None:
        cls.apps.append(celery_app)

    @staticmethod
    def run(work: Coroutine[object, Any, T], /) -> T:
        return asyncio.run(work)

    @classmethod
    def shutdown(cls) -> None:
        cls.apps.clear()


class SearchProvider:
    """A resource with a class attribute for its name and a generator for its scope."""

    name = "search"

    async def startup(self) -> None: ...

    async def shutdown(self) -> None: ...

    @asynccontextmanager
    async def task_scope(self) -> AsyncGenerator[int]:
        yield 1


class MailProvider:
    """A resource with an instance attribute for its name."""

    def __init__(self, host: str) -> None:
        self.name = f"mail@{host}"

    async def startup(self) -> None: ...

    async def shutdown(self) -> None: ...

    def task_scope(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class MetricsProvider:
    """A resource with a property for its name."""

    @property
    def name(self) -> str:
        return "metrics"

    async def startup(self) -> None: ...

    async def shutdown(self) -> None: ...

    def task_scope(self) -> nullcontext[str]:
        return nullcontext("")


class PickleSerializer:
    name = "trusted-pickle"
    content_type = "application/x-trusted"
    content_encoding = "binary"

    def dumps(self, value: object) -> bytes:
        return pickle.dumps(value)

    def loads(self, raw: str | bytes) -> object:
        return cast("object", pickle.loads(raw if isinstance(raw, bytes) else raw.encode()))


class ReprSerializer:
    content_encoding = "utf-8"

    def __init__(self, name: str) -> None:
        self.name = name
        self.content_type = f"text/{name}"

    def dumps(self, obj: object, /, *, pretty: bool = False) -> str:
        return repr(obj) + "\n" * pretty

    def loads(self, data: str | bytes | bytearray, /) -> str:
        return data if isinstance(data, str) else data.decode()

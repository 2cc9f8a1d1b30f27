"""Results in Redis, stored by all tasks of a turn of the loop in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, cast

import redis
import redis.asyncio
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendStoreError
from typing_extensions import override

from tomskit.celery.greenlets import await_here

__all__ = ("RedisResults",)

_Command = tuple[object, ...]

_ASYNC_CLASSES: dict[type, type] = {
    redis.Connection: redis.asyncio.Connection,
    redis.SSLConnection: redis.asyncio.SSLConnection,
    redis.UnixDomainSocketConnection: redis.asyncio.UnixDomainSocketConnection,
}


class RedisResults(RedisBackend):
    """Celery's Redis backend, for code in greenlets: it reads and writes through the loop.

    Keys, formats, expiry and publishing are Celery's. What the tasks of a turn of the loop read and
    write goes in one pipeline.

    Args:
        backend: Celery's own.
        chord_part: What counts the finished tasks of a chord.
    """

    if TYPE_CHECKING:  # what the stubs do not know
        connparams: dict[str, Any]
        connection_errors: tuple[type[Exception], ...]
        expires: int | None
        _MAX_STR_VALUE_SIZE: int

    def __init__(self, backend: RedisBackend, chord_part: Callable[..., object]) -> None:
        # It is the same backend in all respects but how it talks to Redis.
        self.__dict__.update(vars(backend))
        self._chord_part = chord_part
        parameters = dict(self.connparams)
        kind = parameters.pop("connection_class", redis.Connection)
        self._batches = _Batches(
            redis.asyncio.Redis(
                connection_pool=redis.asyncio.ConnectionPool(
                    connection_class=_ASYNC_CLASSES[kind], **parameters
                )
            )
        )

    @staticmethod
    def fits(backend: object) -> TypeGuard[RedisBackend]:
        """Whether this can take the place of `backend`."""
        return (
            type(backend) is RedisBackend
            and cast("RedisResults", backend).connparams.get("connection_class", redis.Connection)
            in _ASYNC_CLASSES
        )

    @override
    def get(self, key: str) -> object:
        [value] = await_here(self._batches.run(("GET", key)))
        return value

    @override
    def set(self, key: str, value: str | bytes, expires: int | None = None, **_: object) -> None:
        if isinstance(value, str) and len(value) > self._MAX_STR_VALUE_SIZE:
            raise BackendStoreError("value too large for Redis backend")
        expires = self.expires if expires is None else expires
        store = ("SETEX", key, expires, value) if expires else ("SET", key, value)
        await_here(self._batches.run(store, ("PUBLISH", key, value)))

    @override
    def on_chord_part_return(self, *args: object, **kwargs: object) -> None:
        # Several blocking commands, and the chord's body is sent between them.
        self._chord_part(*args, **kwargs)

    async def close(self) -> None:
        """Close the connections."""
        await self._batches.client.aclose()


class _Pipeline(Protocol):
    def execute_command(self, *command: object) -> object: ...
    async def execute(self, *, raise_on_error: bool) -> list[object]: ...


class _Batches:
    """Sends what is asked for in a turn of the loop in one pipeline."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client
        self._waiting: list[tuple[Sequence[_Command], asyncio.Future[list[object]]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def run(self, *commands: _Command) -> list[object]:
        """Execute commands, in their order, and return their answers."""
        future: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await future

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._send_batch(batch)
        finally:
            self._sending = None

    async def _send_batch(
        self, batch: list[tuple[Sequence[_Command], asyncio.Future[list[object]]]]
    ) -> None:
        pipeline = cast("_Pipeline", self.client.pipeline(transaction=False))
        for commands, _ in batch:
            for command in commands:
                pipeline.execute_command(*command)
        try:
            answers = await pipeline.execute(raise_on_error=False)
        except Exception as exc:  # noqa: BLE001 (it is raised where each of them waits)
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
            return
        for commands, future in batch:
            mine, answers = answers[: len(commands)], answers[len(commands) :]
            error = next((answer for answer in mine if isinstance(answer, Exception)), None)
            if future.done():
                continue
            if error is None:
                future.set_result(mine)
            else:
                future.set_exception(error)

"""Results in Redis, stored by all tasks of a turn of the loop in one go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard

from celery.backends.redis import RedisBackend, SentinelBackend
from celery.exceptions import BackendStoreError
from typing_extensions import override

from tomskit.celery.fast_redis.batches import Batches, Command
from tomskit.celery.greenlets import await_here

__all__ = ("RedisResults",)


class RedisResults(RedisBackend):
    """Celery's Redis backend, for code in greenlets: it reads and writes through the loop.

    Keys, formats, expiry and publishing are Celery's. What the tasks of a turn of the loop read and
    write goes in one write.

    Args:
        backend: Celery's own.
        chord_part: What counts the finished tasks of a chord.
    """

    if TYPE_CHECKING:  # what the stubs do not know
        connection_errors: tuple[type[Exception], ...]
        expires: int | None
        _MAX_STR_VALUE_SIZE: int

    def __init__(self, backend: RedisBackend, chord_part: Callable[..., object]) -> None:
        # It is the same backend in all respects but how it talks to Redis.
        self.__dict__.update(vars(backend))
        self._chord_part = chord_part
        self._batches = Batches(backend.client.connection_pool)

    @staticmethod
    def fits(backend: object) -> TypeGuard[RedisBackend]:
        """Whether this can take the place of `backend`."""
        return type(backend) in {RedisBackend, SentinelBackend}

    @override
    def get(self, key: str) -> object:
        [value] = self._execute(("GET", key))
        return value

    @override
    def set(self, key: str, value: str | bytes, expires: int | None = None, **_: object) -> None:
        if isinstance(value, str) and len(value) > self._MAX_STR_VALUE_SIZE:
            raise BackendStoreError("value too large for Redis backend")
        expires = self.expires if expires is None else expires
        store = ("SETEX", key, expires, value) if expires else ("SET", key, value)
        self._execute(store, ("PUBLISH", key, value))

    @override
    def on_chord_part_return(self, *args: object, **kwargs: object) -> None:
        # Several blocking commands, and the chord's body is sent between them.
        self._chord_part(*args, **kwargs)

    async def close(self) -> None:
        """Close the connections."""
        await self._batches.close()

    def _execute(self, *commands: Command) -> list[object]:
        answers = await_here(self._batches.run(*commands))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

"""Subscriptions: results as Redis announces them, for any number of waiters of a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import redis
from celery import states
from celery.utils.log import get_logger
from redis.exceptions import RedisError

from tomskit.celery._client.retrying import Outage, Retrying, is_away, pauses_of, publish_pauses
from tomskit.celery._client.waiting import results_away
from tomskit.celery._internals.celery_backend import stored_state
from tomskit.celery._internals.redis_connections import is_array, parameters_of, traffic_of
from tomskit.celery.fast_redis.batches import Batches
from tomskit.celery.fast_redis.deadlines import SECONDS, Moving, answered
from tomskit.celery.fast_redis.loop_pool import close_pool, loop_pool

if TYPE_CHECKING:
    from celery.app.task import Context

    from tomskit.celery._internals.celery_backend import RedisBackend
    from tomskit.celery._internals.redis_connections import Command, LoopConnection

__all__ = ("Meta", "Subscriptions")

Meta = dict[str, Any]
"""What a backend stores of a task."""

logger: Final = get_logger(__name__)

_QUIET_SHARE: Final = 0.5
"""What part of the timeout a connection may be silent before a PING; the rest is for the answer."""
_LINGER_SECONDS: Final = 5.0
"""How long a connection without waiters is kept."""


class Subscriptions:
    """Waits for tasks to end, on one connection for all waiters of an event loop.

    The backend publishes each state that it stores, on a channel with the name of its key. A result may
    have been stored before, so each key is read once, after Redis has confirmed the subscription.

    Attributes:
        batches: The connection on which results are read that were stored before.

    Args:
        backend: Stores the results.
    """

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        pool = backend.client.connection_pool
        self.batches: Batches = Batches(pool)
        self._listening = loop_pool(pool)
        self._timeout: float = parameters_of(pool).get("socket_timeout") or SECONDS
        self._waiters: dict[bytes, set[asyncio.Future[Meta]]] = {}
        self._watchers: dict[asyncio.Future[Meta], Callable[[Meta], object]] = {}
        self._subscribing: list[bytes] = []
        self._unsubscribing: set[bytes] = set()
        self._confirmed: list[bytes] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._outage = Outage("wait for results", "the result backend", logger)
        self._unread = Outage("read a result", "the result backend", logger)
        self._retrying: Retrying | None = None
        self._has_answered = False

    async def ask(self, *commands: Command) -> list[object]:
        """Answers to commands about results, tried again while Redis is away.

        Raises:
            ServerAwayError: It stays away.
        """

        async def once() -> list[object]:
            answers = await self.batches.run(*commands)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            self._has_answered = True
            return answers

        try:
            return await self._new_retrying(self._unread).run_async(once)
        except (RedisError, OSError) as exc:
            raise self._error(exc) from exc

    def _new_retrying(self, outage: Outage) -> Retrying:
        return Retrying(outage, pauses=self._pauses(), timeout=self._timeout)

    def _pauses(self) -> Iterator[float]:
        """Seconds before each try while Redis is away: as the settings for results say.

        As those for publishing say, if it was never there.
        """
        if self._has_answered:
            return pauses_of(**self._backend.retry_policy)
        return publish_pauses(self._backend.app.conf)

    def _error(self, exc: Exception) -> Exception:
        return results_away(self._backend, exc) if is_away(exc) else exc

    def key(self, task_id: str) -> bytes:
        """The key of a task's result, which is also the channel on which Redis announces it."""
        return self._backend.get_key_for_task(task_id)

    def decode(self, value: bytes) -> Meta:
        """What the backend has stored of a task, from the value of its key."""
        return self._backend.decode_result(value)

    def stored(self, task_id: str, result: object, state: str, request: Context) -> bytes | str:
        """What the backend stores of a task that is in this state."""
        return stored_state(self._backend, task_id, result, state, request)

    @property
    def expires(self) -> int:
        """How many seconds a state is kept; 0 is for ever."""
        return self._backend.expires or 0

    def subscribe(
        self, task_id: str, watch: Callable[[Meta], object] | None = None
    ) -> asyncio.Future[Meta]:
        """A future of what the backend stores of a task when that ends.

        Give it to `unsubscribe` in the end.

        Args:
            task_id: The id of the task.
            watch: Called with what is stored before that: the state at the beginning, and each later
                one, some of them more than once.
        """
        key = self._backend.get_key_for_task(task_id)
        future: asyncio.Future[Meta] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.get(key)
        if waiters is None:
            self._waiters[key] = {future}
            if key in self._unsubscribing:
                # Redis still has the subscription, but messages meanwhile have found no waiter.
                self._unsubscribing.discard(key)
                self._confirm(key)
            else:
                self._subscribing.append(key)
                self._changed.set()
        else:
            waiters.add(future)
            if watch is not None:
                # It has missed what the others have seen.
                self._confirmed.append(key)
                self._changed.set()
        if watch is not None:
            self._watchers[future] = watch
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    def unsubscribe(self, task_id: str, future: asyncio.Future[Meta]) -> None:
        """Stop waiting for this future."""
        future.cancel()
        self._watchers.pop(future, None)
        key = self._backend.get_key_for_task(task_id)
        waiters = self._waiters.get(key, set())
        waiters.discard(future)
        if not waiters and self._waiters.pop(key, None) is not None:
            self._unsubscribing.add(key)
            self._changed.set()

    async def close(self) -> None:
        """Close the connections; waiters that are left get a CancelledError."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.batches.close()
        await close_pool(self._listening)

    async def _run(self) -> None:
        try:
            while self._waiters:
                try:
                    await self._listen()
                except (RedisError, OSError) as exc:
                    if self._waiters:
                        await self._pause(exc)
        finally:
            self._task = None
            for waiters in self._waiters.values():
                for future in waiters:
                    future.cancel()

    async def _pause(self, exc: Exception) -> None:
        """Wait before the next try, by the backend's own retry policy."""
        if self._retrying is None:
            self._retrying = self._new_retrying(self._outage)
        try:
            pause = self._retrying.failed(exc)
        except (RedisError, OSError):
            self._give_up(exc)
        else:
            await asyncio.sleep(pause)

    def _give_up(self, exc: Exception) -> None:
        for waiters in self._waiters.values():
            for future in waiters:
                if not future.done():
                    # Each waiter has one of its own, for its traceback.
                    error = self._error(exc)
                    error.__cause__ = None if error is exc else exc
                    future.set_exception(error)
        self._waiters.clear()
        self._retrying = None

    async def _listen(self) -> None:
        """Listen until there have been no waiters for some time."""
        connection = await answered(self._listening.get_connection(), self._timeout)
        reading: asyncio.Task[None] | None = None
        try:
            # A new connection has no subscriptions.
            self._subscribing[:] = self._waiters
            self._unsubscribing.clear()
            self._confirmed.clear()
            self._changed.set()
            reading = asyncio.create_task(self._read(connection))
            reading.add_done_callback(lambda _: self._changed.set())
            while await self._has_changed():
                if reading.done():
                    reading.result()
                if commands := self._take_commands():
                    async with Moving(connection, self._timeout):
                        await connection.send_packed_command(connection.pack_commands(commands))
                if keys := self._take_confirmed():
                    await self._look_up(keys)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait([reading])
            await connection.disconnect(nowait=True)
            await self._listening.release(connection)

    async def _has_changed(self) -> bool:
        try:
            async with asyncio.timeout(None if self._waiters else _LINGER_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return bool(self._waiters)
        self._changed.clear()
        return True

    def _take_commands(self) -> list[Command]:
        wanted: list[bytes] = []
        dropped = self._unsubscribing
        for key in self._subscribing:
            if key in self._waiters:
                wanted.append(key)
            else:
                dropped.discard(key)
        commands: list[Command] = []
        if wanted:
            commands.append(("SUBSCRIBE", *wanted))
        if dropped:
            commands.append(("UNSUBSCRIBE", *dropped))
        self._subscribing.clear()
        dropped.clear()
        return commands

    def _take_confirmed(self) -> list[bytes]:
        keys, self._confirmed = self._confirmed, []
        return [key for key in keys if key in self._waiters]

    async def _read(self, connection: LoopConnection) -> None:
        asked = False
        while True:
            before = traffic_of(connection)
            try:
                async with asyncio.timeout(self._timeout * _QUIET_SHARE):
                    answer = await connection.read_response(
                        disconnect_on_error=False, push_request=True
                    )
            except TimeoutError:
                if traffic_of(connection) != before:
                    continue  # a long message comes slowly
                if asked:
                    raise redis.ConnectionError("Redis does not answer") from None
                asked = True
                await connection.send_command("PING")
                continue
            asked = False
            match answer:
                case [b"message", bytes(key), bytes(value)]:
                    self._take_value(key, value)
                case [b"subscribe", bytes(key), int()]:
                    self._confirm(key)
                case _:
                    pass  # another confirmation, or the answer to PING

    def _confirm(self, key: bytes) -> None:
        self._has_answered = True
        if self._retrying is not None:
            self._retrying.succeeded()
            self._retrying = None
        self._confirmed.append(key)
        self._changed.set()

    async def _look_up(self, keys: list[bytes]) -> None:
        [values] = await self.batches.run(("MGET", *keys))
        if isinstance(values, Exception):
            raise values
        assert is_array(values)  # noqa: S101 (MGET answers with one)
        for key, value in zip(keys, values, strict=True):
            if value is not None:
                self._take_value(key, value)

    def _take_value(self, key: bytes, value: bytes) -> None:
        waiters = self._waiters.get(key)
        if not waiters:
            return
        meta: Meta | Exception
        try:
            meta = self._backend.decode_result(value)
        except Exception as exc:  # noqa: BLE001 (the waiters raise it)
            meta = exc
        if isinstance(meta, Exception):
            for future in waiters:
                if not future.done():
                    future.set_exception(meta)
        elif meta["status"] in states.READY_STATES:
            for future in waiters:
                if not future.done():
                    future.set_result(meta)
        else:
            self._show(meta, waiters)

    def _show(self, meta: Meta, waiters: set[asyncio.Future[Meta]]) -> None:
        if self._watchers:
            for future in waiters & self._watchers.keys():
                self._watchers[future](meta)

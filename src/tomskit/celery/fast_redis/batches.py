"""Batches: the commands of all code that runs in one turn of an event loop, in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import redis
from celery.utils.log import get_logger
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tomskit.celery._internals.redis_connections import (
    Command,
    LoopConnection,
    LoopPool,
    is_array,
    parameters_of,
    server_has_closed,
)
from tomskit.celery.fast_redis.deadlines import SECONDS, Moving, answered
from tomskit.celery.fast_redis.loop_pool import close_pool, loop_pool
from tomskit.celery.fast_redis.packing import packed
from tomskit.celery.fast_redis.scripts import STORE, stored_ones

logger: Final = get_logger(__name__)

__all__ = ("Batches", "Command", "StoredState")

_AT_ONCE: Final = 500
"""How many callers' commands go in one write. More are no faster, and the write is a copy of them
all: 10 MB for 3000 results.
"""

_ANSWERED_AT_ONCE: Final = 40
"""How many callers run on in one turn of the loop."""

_STORES_AT_ONCE: Final = 50
"""How many states one script stores: Redis does nothing else meanwhile."""

_CANNOT_CONTINUE: Final = "Cannot continue a task whose state was stored"


class _Entry(Protocol):
    @property
    def size(self) -> int:  # how many callers it is for
        ...

    def commands(self) -> Sequence[Command]: ...
    def answered(self, answers: list[object]) -> None: ...
    def failed(self, exc: Exception) -> None: ...
    def cancel(self) -> None: ...


class _Commands:
    """The commands of one caller."""

    @property
    def size(self) -> int:
        return 1

    __slots__ = ("_commands", "_transaction", "future")

    def __init__(
        self,
        commands: Sequence[Command],
        future: asyncio.Future[list[object]],
        *,
        transaction: bool,
    ) -> None:
        self._commands = commands
        self._transaction = transaction
        self.future: Final = future

    def commands(self) -> Sequence[Command]:
        if self.future.cancelled():
            return []
        return [("MULTI",), *self._commands, ("EXEC",)] if self._transaction else self._commands

    def answered(self, answers: list[object]) -> None:
        if self.future.done():
            return
        if self._transaction:
            result = answers[-1]
            if not is_array(result):
                # EXEC has refused; the answer to one of the commands says why.
                error = next((one for one in answers if isinstance(one, Exception)), None)
                self.future.set_exception(error or ResponseError(f"EXEC answered {result!r}"))
                return
            self.future.set_result(result)
        else:
            self.future.set_result(answers)

    def failed(self, exc: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(exc)

    def cancel(self) -> None:
        self.future.cancel()


class _Push:
    """One LPUSH for the values of any number of callers, in their order."""

    @property
    def size(self) -> int:
        return 1

    __slots__ = ("_futures", "_values", "key")

    def __init__(self, key: str) -> None:
        self.key: Final = key
        self._values: list[bytes] = []
        self._futures: list[asyncio.Future[None]] = []

    def add(self, value: bytes, future: asyncio.Future[None]) -> None:
        self._values.append(value)
        self._futures.append(future)

    def commands(self) -> Sequence[Command]:
        return [("LPUSH", self.key, *self._values)]

    def answered(self, answers: list[object]) -> None:
        [answer] = answers
        if isinstance(answer, Exception):
            self.failed(answer)
            return
        for future in self._futures:
            if not future.done():
                future.set_result(None)

    def failed(self, exc: Exception) -> None:
        for future in self._futures:
            if not future.done():
                future.set_exception(exc)

    def cancel(self) -> None:
        for future in self._futures:
            future.cancel()


class StoredState(Protocol):
    """The state of a task that is to be stored.

    Attributes:
        key: Where.
    """

    key: bytes

    def value(self) -> bytes | None:
        """What to send now; None for nothing."""
        ...

    def finished(self, error: BaseException | None) -> None:
        """Note that what was sent is stored, or why not."""


class _Stores:
    """One script that stores the states of any number of tasks."""

    __slots__ = ("_sent", "_states", "expires")

    def __init__(self, expires: float) -> None:
        self.expires: Final = expires
        self._states: list[StoredState] = []
        self._sent: list[StoredState] = []

    @property
    def size(self) -> int:
        return len(self._states)

    def add(self, state: StoredState) -> bool:
        """Add a state; False if there are enough."""
        states = self._states
        if len(states) >= _STORES_AT_ONCE:
            return False
        states.append(state)
        return True

    def commands(self) -> Sequence[Command]:
        values: list[bytes] = []
        self._sent = []
        for state in self._states:
            value = state.value()
            if value is not None:
                self._sent.append(state)
                values.append(value)
        if not values:
            return []
        keys = [state.key for state in self._sent]
        return [("EVAL", STORE, len(keys), *keys, self.expires, 0, *values)]

    def answered(self, answers: list[object]) -> None:
        if not answers:
            return
        [answer] = answers
        stored = stored_ones(answer)
        if stored is None or len(stored) != len(self._sent):
            error = answer if isinstance(answer, Exception) else ResponseError(repr(answer))
            self.failed(error)
            return
        for state, is_stored in zip(self._sent, stored, strict=True):
            try:
                state.finished(
                    None
                    if is_stored
                    else ResponseError("The stored state of a task cannot be read")
                )
            except Exception:
                # The answers that follow belong to others.
                logger.exception(_CANNOT_CONTINUE)

    def failed(self, exc: Exception) -> None:
        for state in self._states:
            try:
                state.finished(exc)
            except Exception:
                logger.exception(_CANNOT_CONTINUE)

    def cancel(self) -> None:
        self.failed(RedisConnectionError("The connection was closed"))


class _UnsendableError(Exception):
    """Something in a command cannot be sent, such as a lone surrogate. Nothing was. Its argument is the error."""


class Batches:
    """Sends the commands of a turn of the loop in one write, and reads the answers in one go.

    Redis executes commands in the order in which they were given. One batch is sent at a time; what is
    given before its answers are there makes the next one.

    Attributes:
        timeout: Seconds for which the server may be silent.

    Args:
        pool: redis-py's pool of connections to the server. No connection of it is used.
        at_once: How many callers' commands go in one write, at most.
    """

    def __init__(self, pool: redis.ConnectionPool, *, at_once: int = _AT_ONCE) -> None:
        self._at_once: Final = at_once
        self.pool: LoopPool = loop_pool(pool)
        self.timeout: Final[float] = parameters_of(pool).get("socket_timeout") or SECONDS
        self._connection: LoopConnection | None = None
        self._waiting: list[_Entry] = []
        self._alone = 0  # how many of them are sent one by one
        self._sending: asyncio.Task[None] | None = None

    async def run(self, *commands: Command, transaction: bool = False) -> list[object]:
        """Execute commands, and return their answers, errors among them.

        Raises:
            redis.exceptions.ConnectionError: Any of them may have been executed, or not.
            redis.exceptions.TimeoutError: As above.
        """
        return await self.begin(*commands, transaction=transaction)

    def begin(self, *commands: Command, transaction: bool = False) -> asyncio.Future[list[object]]:
        """Execute commands, as `run`, and return a future of the answers.

        If it is cancelled before they are sent, they are not sent.
        """
        future: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        self._add(_Commands(commands, future, transaction=transaction))
        return future

    async def push(self, key: str, value: bytes) -> None:
        """Put a value at the head of a list, as LPUSH does.

        Raises:
            redis.exceptions.RedisError: As `run`, or Redis has answered with an error.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        last = self._waiting[-1] if self._waiting else None
        if not isinstance(last, _Push) or last.key != key:
            last = _Push(key)
            self._add(last)
        last.add(value, future)
        await future

    def store(self, state: StoredState, expires: float) -> None:
        """Store and publish the state of a task, as the script `STORE` does.

        Args:
            state: The state.
            expires: The seconds that it is kept; 0 for ever.
        """
        last = self._waiting[-1] if self._waiting else None
        if not isinstance(last, _Stores) or last.expires != expires or not last.add(state):
            last = _Stores(expires)
            last.add(state)
            self._add(last)

    async def close(self) -> None:
        """Close the connections."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        self._connection = None
        await close_pool(self.pool)

    def _add(self, entry: _Entry) -> None:
        self._waiting.append(entry)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        entries: list[_Entry] = []
        try:
            while self._waiting:
                entries = self._take()
                commands = [entry.commands() for entry in entries]
                try:
                    answers = await self._exchange([one for some in commands for one in some])
                except Exception as exc:  # noqa: BLE001 (it is raised where each of them waits)
                    if isinstance(exc, _UnsendableError) and len(entries) > 1:
                        # The others are none of its concern.
                        self._waiting[:0], self._alone, entries = entries, len(entries), []
                    for entry in entries:
                        entry.failed(exc.args[0] if isinstance(exc, _UnsendableError) else exc)
                    continue
                place = answered = 0
                for entry, some in zip(entries, commands, strict=True):
                    entry.answered(answers[place : place + len(some)])
                    place += len(some)
                    answered += entry.size
                    if answered >= _ANSWERED_AT_ONCE:
                        # In a worker tasks end now, and are acknowledged before others end.
                        answered = 0
                        await asyncio.sleep(0)
        finally:
            self._sending = None
            for entry in (*entries, *self._waiting):
                entry.cancel()
            self._waiting.clear()

    def _take(self) -> list[_Entry]:
        """What is sent next: no more callers than `at_once`."""
        size = count = 0
        at_once, self._alone = 1 if self._alone else self._at_once, max(self._alone - 1, 0)
        for entry in self._waiting:
            size += entry.size
            if count and size > at_once:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def _exchange(self, commands: list[Command]) -> list[object]:
        try:
            connection = await self._connected()
            data = _packed(connection, commands)
            async with Moving(connection, self.timeout) as moving:
                await connection.send_packed_command(data)
                answers: list[object] = []
                for _ in commands:
                    answers.append(await _answer(connection))
                    moving.answered()
                return answers
        except BaseException as exc:
            if self._connection is not None and not isinstance(exc, _UnsendableError):
                await self._connection.disconnect(nowait=True)
            if isinstance(exc, OSError):
                raise RedisConnectionError(str(exc)) from exc
            raise

    async def _connected(self) -> LoopConnection:
        connection = self._connection
        if connection is None:
            connection = await answered(self.pool.get_connection(), self.timeout)
            self._connection = connection
        elif server_has_closed(connection):
            await connection.disconnect(nowait=True)
        await answered(connection.connect(), self.timeout)
        return connection


def _packed(connection: LoopConnection, commands: list[Command]) -> object:
    try:
        return packed(connection, commands)
    except Exception as exc:
        raise _UnsendableError(exc) from exc


async def _answer(connection: LoopConnection) -> object:
    try:
        return await connection.read_response()
    except ResponseError as exc:
        return exc

"""Batches: the commands that an event loop's code gives in a turn, in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tomskit.celery.fast_redis.loop_pool import close_pool, loop_pool

__all__ = ("Batches", "Command", "Connection", "Pool")

Command = tuple[object, ...]

_AT_ONCE: Final = 500
"""How many callers' commands go in one write. More are no faster and make a copy of it all: 10 MB for
3000 results.
"""


class _Reader(Protocol):
    def at_eof(self) -> bool: ...


class Pool(Protocol):
    """redis.asyncio's."""

    async def get_connection(self) -> Connection: ...  # noqa: D102
    async def release(self, connection: Connection) -> None: ...  # noqa: D102


class Connection(Protocol):
    """redis.asyncio's."""

    _reader: _Reader | None

    @property
    def is_connected(self) -> bool: ...  # noqa: D102
    async def disconnect(self, nowait: bool = False) -> None: ...  # noqa: D102
    async def send_command(self, *command: object) -> None: ...  # noqa: D102
    async def send_packed_command(self, command: object) -> None: ...  # noqa: D102
    def pack_commands(self, commands: Sequence[Command]) -> object: ...  # noqa: D102
    async def read_response(  # noqa: D102
        self, *, disconnect_on_error: bool = True, push_request: bool = False
    ) -> object: ...


class _SyncPool(Protocol):
    connection_kwargs: dict[str, Any]


class _Entry(Protocol):
    def commands(self) -> Sequence[Command]: ...
    def answered(self, answers: list[object]) -> None: ...
    def failed(self, exc: Exception) -> None: ...
    def cancel(self) -> None: ...


class _Commands:
    """What is executed for one caller."""

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
            if not isinstance(result, list):
                # EXEC has refused, for a reason that one of the commands was told.
                error = next((one for one in answers if isinstance(one, Exception)), None)
                self.future.set_exception(error or ResponseError(f"EXEC answered {result!r}"))
                return
            answers = cast("list[object]", result)
        self.future.set_result(answers)

    def failed(self, exc: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(exc)

    def cancel(self) -> None:
        self.future.cancel()


class _Push:
    """What any number of callers put into a list, one after the other, as one command."""

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


class Batches:
    """Sends what is asked for in a turn of the loop in one write, and reads the answers in one go.

    Commands are executed in the order in which they were asked for. One batch is under way at a
    time; what is asked for meanwhile makes the next one.

    Args:
        pool: redis-py's, of connections to the server. It is not used itself.
    """

    def __init__(self, pool: object) -> None:
        self.pool: Pool = cast("Pool", loop_pool(pool))
        self._timeout: Final[float | None] = cast("_SyncPool", pool).connection_kwargs.get(
            "socket_timeout"
        )
        self._connection: Connection | None = None
        self._waiting: list[_Entry] = []
        self._sending: asyncio.Task[None] | None = None

    async def run(self, *commands: Command, transaction: bool = False) -> list[object]:
        """Execute commands, and return their answers, errors among them.

        Raises:
            redis.exceptions.ConnectionError: It is not known which of them were executed.
            redis.exceptions.TimeoutError: As well.
        """
        return await self.begin(*commands, transaction=transaction)

    def begin(self, *commands: Command, transaction: bool = False) -> asyncio.Future[list[object]]:
        """Have commands executed, as `run`. What is cancelled before it is sent is not sent."""
        future: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        self._add(_Commands(commands, future, transaction=transaction))
        return future

    async def push(self, key: str, value: bytes) -> None:
        """Put a value at the head of a list, as LPUSH does.

        Raises:
            redis.exceptions.RedisError: As of `run`, and what Redis has answered.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        last = self._waiting[-1] if self._waiting else None
        if not isinstance(last, _Push) or last.key != key:
            last = _Push(key)
            self._add(last)
        last.add(value, future)
        await future

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
                entries, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                commands = [entry.commands() for entry in entries]
                try:
                    answers = await self._exchange([one for some in commands for one in some])
                except Exception as exc:  # noqa: BLE001 (it is raised where each of them waits)
                    for entry in entries:
                        entry.failed(exc)
                    continue
                place = 0
                for entry, some in zip(entries, commands, strict=True):
                    entry.answered(answers[place : place + len(some)])
                    place += len(some)
        finally:
            self._sending = None
            for entry in (*entries, *self._waiting):
                entry.cancel()
            self._waiting.clear()

    async def _exchange(self, commands: list[Command]) -> list[object]:
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connected()
                await connection.send_packed_command(connection.pack_commands(commands))
                return [await _answer(connection) for _ in commands]
        except BaseException as exc:
            if self._connection is not None:
                await self._connection.disconnect(nowait=True)
            if isinstance(exc, TimeoutError) and not isinstance(exc, RedisError):
                raise RedisTimeoutError(f"Redis has not answered for {self._timeout} s") from exc
            if isinstance(exc, OSError):
                raise RedisConnectionError(str(exc)) from exc
            raise

    async def _connected(self) -> Connection:
        connection = self._connection
        if connection is None:
            connection = self._connection = await self.pool.get_connection()
        elif connection.is_connected and (
            connection._reader is None or connection._reader.at_eof()  # noqa: SLF001
        ):
            # The server has closed it meanwhile. It is opened again by the next command.
            await connection.disconnect(nowait=True)
        return connection


async def _answer(connection: Connection) -> object:
    try:
        return await connection.read_response()
    except ResponseError as exc:
        return exc

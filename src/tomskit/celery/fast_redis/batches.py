"""Batches: the commands that an event loop's code gives in a turn, in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tomskit.celery.fast_redis.loop_pool import close_pool, loop_pool

__all__ = ("Batches", "Command", "Connection", "Pool")

Command = tuple[object, ...]


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


@dataclass(slots=True)
class _Entry:
    commands: Sequence[Command]
    transaction: bool
    answered: asyncio.Future[list[object]]

    def wire(self) -> Sequence[Command]:
        return [("MULTI",), *self.commands, ("EXEC",)] if self.transaction else self.commands


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
        answered: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(commands, transaction, answered))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await answered

    async def close(self) -> None:
        """Close the connections."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        self._connection = None
        await close_pool(self.pool)

    async def _send(self) -> None:
        entries: list[_Entry] = []
        try:
            while self._waiting:
                entries, self._waiting = self._waiting, []
                try:
                    answers = await self._exchange(
                        [command for entry in entries for command in entry.wire()]
                    )
                except Exception as exc:  # noqa: BLE001 (it is raised where each of them waits)
                    for entry in entries:
                        if not entry.answered.done():
                            entry.answered.set_exception(exc)
                else:
                    _hand_out(entries, answers)
        finally:
            self._sending = None
            for entry in (*entries, *self._waiting):
                entry.answered.cancel()
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


def _hand_out(entries: list[_Entry], answers: list[object]) -> None:
    place = 0
    for entry in entries:
        end = place + len(entry.wire())
        mine = answers[place:end]
        place = end
        if entry.answered.done():
            continue
        if entry.transaction:
            result = mine[-1]
            if not isinstance(result, list):
                # EXEC has refused, for a reason that one of the commands was told.
                error = next((one for one in mine if isinstance(one, Exception)), None)
                entry.answered.set_exception(error or ResponseError(f"EXEC answered {result!r}"))
                continue
            mine = cast("list[object]", result)
        entry.answered.set_result(mine)

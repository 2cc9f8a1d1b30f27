"""Commands as they are written to a connection."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, groupby
from typing import Any, Final, Protocol

from tomskit.celery._internals.redis_connections import Command

__all__ = ("packed",)

_LARGE: Final = 20_000
"""Bytes of an argument from which on redis-py does not copy it."""

_HEADS: Final = tuple(b"\r\n$%d\r\n" % length for length in range(1024))
"""What stands in front of an argument of each length that is common. To join texts takes a fifth of the time of
making them by a format."""


class _Connection(Protocol):
    def pack_commands(self, commands: Sequence[Command]) -> object: ...


def packed(connection: _Connection, commands: Sequence[Command]) -> object:
    """What redis-py makes of commands, for arguments that are all short: in a third of its time.

    It takes 0.5 us for each, and a task has four.

    Raises:
        Exception: An argument cannot be sent, such as a lone surrogate.
    """
    parts: list[bytes] = []
    for command in commands:
        if " " in str(command[0]):
            return connection.pack_commands(commands)
        parts.append(b"*%d" % len(command))
        for kind, some in groupby(command, type):
            arguments = _encoded(kind, [*some])
            if arguments is None or max(lengths := [*map(len, arguments)]) > _LARGE:
                return connection.pack_commands(commands)
            heads = [_HEADS[n] if n < len(_HEADS) else b"\r\n$%d\r\n" % n for n in lengths]
            parts += chain.from_iterable(zip(heads, arguments, strict=True))
        parts.append(b"\r\n")
    return [b"".join(parts)] if parts else []


def _encoded(kind: type[object], arguments: list[Any]) -> list[bytes] | None:
    """Arguments of one kind as bytes; None where redis-py is to do it."""
    if kind is bytes:
        return arguments
    if kind is str and "".join(arguments).isascii():
        return [*map(str.encode, arguments)]
    return [b"%d" % number for number in arguments] if kind is int else None

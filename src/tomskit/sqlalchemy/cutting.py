"""Ending an operation of a driver for which the server has no answer."""

from __future__ import annotations

import asyncio
from typing import Any, Final

__all__ = ("cut",)

_CANCELLATIONS: Final = 3
"""psycopg takes the first one for a wish to ask the server, and goes on waiting. And one ends the wait for one
connection, not for the others."""


async def cut(operation: asyncio.Task[Any], *, seconds: float) -> None:
    """Cancel an operation whose outcome nobody waits for any more.

    Args:
        operation: What it raises, now or later, is dropped.
        seconds: How long each of several cancellations may take.
    """
    operation.add_done_callback(_drop_error)
    for _ in range(_CANCELLATIONS):
        operation.cancel()
        await asyncio.wait([operation], timeout=seconds)
        if operation.done():
            return


def _drop_error(operation: asyncio.Task[Any]) -> None:
    # Otherwise the loop would report that nobody has asked for it.
    if not operation.cancelled():
        operation.exception()

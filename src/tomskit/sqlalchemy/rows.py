"""A message, as it is written into the database."""

from __future__ import annotations

from typing_extensions import TypedDict

__all__ = ("OutboxRow",)


class OutboxRow(TypedDict):
    """A message, as it is written: in ASCII."""

    id: str
    body: str
    options: str

"""Errors that a worker raises, and that a client has not imported."""

from __future__ import annotations

IMPORTED = True


class RareError(Exception):
    """Made of something else than its text."""

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"{where}: {code}")
        self.code = code
        self.where = where

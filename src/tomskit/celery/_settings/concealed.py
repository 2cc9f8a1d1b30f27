"""Text that Celery may hold and log without giving it away."""

from __future__ import annotations

from typing_extensions import override

__all__ = ("Concealed",)


class Concealed(str):
    """Text that the ``repr`` of what holds it, such as ``app.conf``, does not show."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "'********'"

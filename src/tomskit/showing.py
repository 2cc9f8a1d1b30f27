"""How an error is written, whatever its class does."""

from __future__ import annotations

__all__ = ("name_of", "shown")


def shown(error: BaseException) -> str:
    """What ``repr`` makes of an error, or that it makes nothing of it; it raises nothing."""
    try:
        return repr(error)
    except BaseException as exc:  # noqa: BLE001 (a method of its class may raise anything)
        return f"<{name_of(error)}, which cannot be written: {name_of(exc)}>"


def name_of(error: BaseException) -> str:
    """The name of an error's class, with its module if that is not Python's own."""
    kind = type(error)
    is_pythons = kind.__module__ == "builtins"
    return kind.__qualname__ if is_pythons else f"{kind.__module__}.{kind.__qualname__}"

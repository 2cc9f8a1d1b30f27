"""Errors whose classes do what no reader of an error expects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from typing_extensions import override

__all__ = ("READABLE", "UNSHOWABLE", "FrozenError", "readable", "unshowable")


class FalsyError(Exception):
    """Holds nothing, as a collection of problems may."""

    def __len__(self) -> int:
        return 0


class EqualToNothingError(Exception):
    @override
    def __eq__(self, other: object) -> bool:
        raise ValueError("not compared")

    @override
    def __hash__(self) -> int:
        raise ValueError("not hashed")


class NoTextError(Exception):
    @override
    def __str__(self) -> str:
        no_text: Any = None
        return cast("str", no_text)

    @override
    def __repr__(self) -> str:
        raise RecursionError("too deep")


@dataclass(frozen=True)
class FrozenError(Exception):
    number: int


@dataclass(frozen=True, slots=True)
class FrozenSlotsError(Exception):
    number: int


class ReadyForAllError(Exception):
    def __getattr__(self, name: str) -> object:
        return self

    def __call__(self, *_: object, **__: object) -> object:
        return self


class Incomparable:
    """Equal to nothing, as the elements of an array are."""

    @override
    def __eq__(self, other: object) -> bool:
        raise ValueError("not compared")

    __hash__ = None  # type: ignore[assignment] # as of any class that defines __eq__

    @override
    def __repr__(self) -> str:
        return "Incomparable()"


class ArrayError(Exception):
    def __init__(self, array: object, *, code: int) -> None:
        super().__init__(array)
        self.code = code


class UndecidedError(Exception):
    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")


class UnreadableError(Exception):
    @override
    def __getattribute__(self, name: str) -> object:
        raise ValueError("nothing to be read")


class ExitingTextError(Exception):
    @override
    def __str__(self) -> str:
        raise SystemExit(1)


class ExitingCopyError(Exception):
    @override
    def __reduce__(self) -> str:
        raise KeyboardInterrupt


class ExitingArgument:
    @override
    def __repr__(self) -> str:
        raise SystemExit(1)


class ExitingStop(BaseException):
    @override
    def __repr__(self) -> str:
        raise KeyboardInterrupt


def _cyclic() -> Exception:
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    one.__context__, other.__context__ = other, one
    return one


def _nested_groups(depth: int) -> Exception:
    group: Exception = ValueError("innermost")
    for _ in range(depth):
        group = _in_group(group)
    return group


def _in_group(error: Exception) -> Exception:
    return ExceptionGroup("g", [error])


def _caused_by(cause: BaseException) -> Exception:
    error = LookupError("caused")
    error.__cause__ = cause
    return error


READABLE: Final[dict[str, Callable[[], Exception]]] = {
    "FalsyError": lambda: FalsyError("falsy"),
    "EqualToNothingError": lambda: EqualToNothingError("alone"),
    "NoTextError": lambda: NoTextError("no text"),
    "FrozenError": lambda: FrozenError(5),
    "FrozenSlotsError": lambda: FrozenSlotsError(5),
    "ReadyForAllError": lambda: ReadyForAllError("all"),
    "ArrayError": lambda: ArrayError(Incomparable(), code=5),
    "ValueError": _cyclic,
    "ExitingTextError": lambda: ExitingTextError("text"),
    "LookupError": lambda: _caused_by(ExitingTextError("text")),
    "ExceptionGroup": lambda: _nested_groups(500),
}
"""Those that fail their task by themselves, by the names of their classes."""

UNSHOWABLE: Final[dict[str, Callable[[], BaseException]]] = {
    "UndecidedError": lambda: UndecidedError("undecided"),
    # What looks at it raises another error.
    "ValueError": lambda: UnreadableError("unreadable"),
    "ExitingCopyError": lambda: ExitingCopyError("copy"),
    "ArithmeticError": lambda: ArithmeticError(ExitingArgument()),
    "ExitingStop": ExitingStop,
}
"""Those of which neither Python nor Celery can make a text or a copy, by what the error in their place names."""


def readable(kind: str) -> Exception:
    return READABLE[kind]()


def unshowable(kind: str) -> BaseException:
    return UNSHOWABLE[kind]()

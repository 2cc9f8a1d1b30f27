"""What type checkers know of the items of ``map`` and ``starmap``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, TypeVarTuple, overload

from celery.canvas import xmap, xstarmap
from typing_extensions import override

from tomskit.celery._tasks.replacing import ReplacingTask

__all__ = ("MappedTask",)

P = ParamSpec("P")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
Ts = TypeVarTuple("Ts")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class MappedTask(ReplacingTask[P, R_co]):
    """A task whose items are checked: each has the arguments of a call.

    By their number, so that parameters with defaults may be left out. Tuples are checked, and lists are not: a type
    checker does not know how many items one has.
    """

    if TYPE_CHECKING:

        @override
        def map(self: Callable[[T], R], it: Iterable[T]) -> xmap: ...  # pyright: ignore[reportGeneralTypeIssues]
        @overload
        def starmap(self: Callable[[T1], R], it: Iterable[tuple[T1]]) -> xstarmap: ...  # pyright: ignore[reportGeneralTypeIssues]
        @overload
        def starmap(self: Callable[[T1, T2], R], it: Iterable[tuple[T1, T2]]) -> xstarmap: ...  # pyright: ignore[reportGeneralTypeIssues]
        @overload
        def starmap(  # pyright: ignore[reportGeneralTypeIssues]
            self: Callable[[T1, T2, T3], R], it: Iterable[tuple[T1, T2, T3]]
        ) -> xstarmap: ...
        @overload
        def starmap(  # pyright: ignore[reportGeneralTypeIssues]
            self: Callable[[T1, T2, T3, T4], R], it: Iterable[tuple[T1, T2, T3, T4]]
        ) -> xstarmap: ...
        @overload
        def starmap(  # pyright: ignore[reportGeneralTypeIssues]
            self: Callable[[T1, T2, T3, T4, T5], R], it: Iterable[tuple[T1, T2, T3, T4, T5]]
        ) -> xstarmap: ...
        @overload
        def starmap(self: Callable[[*Ts], R], it: Iterable[tuple[*Ts]]) -> xstarmap: ...  # pyright: ignore[reportGeneralTypeIssues]
        @overload
        def starmap(self, it: Iterable[list[T]]) -> xstarmap: ...
        @override
        def starmap(self, it: object) -> xstarmap: ...

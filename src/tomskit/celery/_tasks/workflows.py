"""group, chain and chord, as Celery's, with the types of what goes in and of what comes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar, overload

from celery import canvas
from celery.canvas import Signature

from tomskit.celery._tasks.signature_base import TypedClasses, copy_as
from tomskit.celery._tasks.signatures import (
    COMPLETE,
    IMMUTABLE,
    PARTIAL,
    ImmutableGroup,
    ImmutableSignature,
    PartialGroup,
    PartialSignature,
    TypedGroup,
    TypedSignature,
)

__all__ = ("chain", "chord", "group")

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
U = TypeVar("U")

Step: TypeAlias = PartialSignature[T, U] | ImmutableSignature[U]
"""What may follow a task that returns T."""
GroupStep: TypeAlias = PartialGroup[T, U] | ImmutableGroup[U]
"""Calls at the same time that may follow it."""


@overload
def group(signatures: Iterable[ImmutableSignature[T]], /) -> ImmutableGroup[T]: ...
@overload
def group(signatures: Iterable[TypedSignature[T]], /) -> TypedGroup[T]: ...
@overload
def group(signatures: Iterable[PartialSignature[T, U]], /) -> PartialGroup[T, U]: ...
@overload
def group(a: ImmutableSignature[T1], b: ImmutableSignature[T2], /) -> ImmutableGroup[T1 | T2]: ...
@overload
def group(
    a: ImmutableSignature[T1], b: ImmutableSignature[T2], c: ImmutableSignature[T3], /
) -> ImmutableGroup[T1 | T2 | T3]: ...
@overload
def group(
    a: ImmutableSignature[T1],
    b: ImmutableSignature[T2],
    c: ImmutableSignature[T3],
    d: ImmutableSignature[T4],
    /,
) -> ImmutableGroup[T1 | T2 | T3 | T4]: ...
@overload
def group(
    a: ImmutableSignature[T1],
    b: ImmutableSignature[T2],
    c: ImmutableSignature[T3],
    d: ImmutableSignature[T4],
    e: ImmutableSignature[T5],
    /,
) -> ImmutableGroup[T1 | T2 | T3 | T4 | T5]: ...
@overload
def group(*signatures: ImmutableSignature[T]) -> ImmutableGroup[T]: ...
@overload
def group(a: TypedSignature[T1], b: TypedSignature[T2], /) -> TypedGroup[T1 | T2]: ...
@overload
def group(
    a: TypedSignature[T1], b: TypedSignature[T2], c: TypedSignature[T3], /
) -> TypedGroup[T1 | T2 | T3]: ...
@overload
def group(
    a: TypedSignature[T1], b: TypedSignature[T2], c: TypedSignature[T3], d: TypedSignature[T4], /
) -> TypedGroup[T1 | T2 | T3 | T4]: ...
@overload
def group(
    a: TypedSignature[T1],
    b: TypedSignature[T2],
    c: TypedSignature[T3],
    d: TypedSignature[T4],
    e: TypedSignature[T5],
    /,
) -> TypedGroup[T1 | T2 | T3 | T4 | T5]: ...
@overload
def group(*signatures: TypedSignature[T]) -> TypedGroup[T]: ...
@overload
def group(a: PartialSignature[T, T1], b: Step[T, T2], /) -> PartialGroup[T, T1 | T2]: ...
@overload
def group(a: ImmutableSignature[T1], b: PartialSignature[T, T2], /) -> PartialGroup[T, T1 | T2]: ...
@overload
def group(
    a: PartialSignature[T, T1], b: Step[T, T2], c: Step[T, T3], /
) -> PartialGroup[T, T1 | T2 | T3]: ...
@overload
def group(
    a: ImmutableSignature[T1], b: PartialSignature[T, T2], c: Step[T, T3], /
) -> PartialGroup[T, T1 | T2 | T3]: ...
@overload
def group(
    a: PartialSignature[T, T1], b: Step[T, T2], c: Step[T, T3], d: Step[T, T4], /
) -> PartialGroup[T, T1 | T2 | T3 | T4]: ...
@overload
def group(
    a: PartialSignature[T, T1], b: Step[T, T2], c: Step[T, T3], d: Step[T, T4], e: Step[T, T5], /
) -> PartialGroup[T, T1 | T2 | T3 | T4 | T5]: ...
@overload
def group(first: PartialSignature[T, U], /, *rest: Step[T, U]) -> PartialGroup[T, U]: ...
def group(*signatures: Signature[object] | Iterable[Signature[object]]) -> Any:
    """Calls that run at the same time, as Celery's ``group`` makes them.

    Args:
        *signatures: Calls with all their arguments; or calls that all wait for their first one,
            which is the result of the task before the group. One iterable of them does as well.

    Returns:
        A signature whose result is a list in the order of the calls.
    """
    members: list[Signature[object]] = []
    for one in signatures:
        members.extend([one] if isinstance(one, Signature) else one)
    return copy_as(_classes_of(members).group, canvas.group(members))


def _classes_of(members: list[Signature[object]]) -> TypedClasses:
    if any(isinstance(one, (PartialSignature, PartialGroup)) for one in members):
        return PARTIAL
    if members and all(isinstance(one, ImmutableSignature) for one in members):
        return IMMUTABLE
    return COMPLETE


@overload
def chain(a: TypedSignature[T1], b: Step[T1, T2], /) -> TypedSignature[T2]: ...
@overload
def chain(a: TypedSignature[T1], b: Step[T1, T2], c: Step[T2, T3], /) -> TypedSignature[T3]: ...
@overload
def chain(
    a: TypedSignature[T1], b: Step[T1, T2], c: Step[T2, T3], d: Step[T3, T4], /
) -> TypedSignature[T4]: ...
@overload
def chain(
    a: TypedSignature[T1],
    b: Step[T1, T2],
    c: Step[T2, T3],
    d: Step[T3, T4],
    e: Step[T4, T5],
    /,
) -> TypedSignature[T5]: ...
@overload
def chain(
    a: TypedSignature[T1],
    b: Step[T1, T2],
    c: Step[T2, T3],
    d: Step[T3, T4],
    e: Step[T4, T5],
    f: Step[T5, T6],
    /,
) -> TypedSignature[T6]: ...
@overload
def chain(a: PartialSignature[T, T1], b: Step[T1, T2], /) -> PartialSignature[T, T2]: ...
@overload
def chain(
    a: PartialSignature[T, T1], b: Step[T1, T2], c: Step[T2, T3], /
) -> PartialSignature[T, T3]: ...
@overload
def chain(first: TypedSignature[T], /, *rest: ImmutableSignature[T]) -> TypedSignature[T]: ...
@overload
def chain(a: TypedSignature[T1], b: GroupStep[T1, T2], /) -> TypedGroup[T2]: ...
@overload
def chain(
    a: TypedSignature[T1], b: GroupStep[T1, T2], c: Step[list[T2], T3], /
) -> TypedSignature[T3]: ...
@overload
def chain(a: TypedSignature[T1], b: Step[T1, T2], c: GroupStep[T2, T3], /) -> TypedGroup[T3]: ...
@overload
def chain(
    a: TypedSignature[T1], b: Step[T1, T2], c: GroupStep[T2, T3], d: Step[list[T3], T4], /
) -> TypedSignature[T4]: ...
@overload
def chain(a: TypedGroup[T1], b: Step[list[T1], T2], /) -> TypedSignature[T2]: ...
@overload
def chain(a: TypedGroup[T1], b: Step[list[T1], T2], c: Step[T2, T3], /) -> TypedSignature[T3]: ...
def chain(*signatures: Signature[object]) -> Any:
    """Tasks one after the other, as ``a | b | c``: each gets the result of the one before it.

    Args:
        *signatures: Two to six. Of more, chain the chains with ``|``.
    """
    if not signatures:
        raise TypeError("A chain has at least one signature.")
    combined: Any = signatures[0]
    for signature in signatures[1:]:
        combined |= signature
    return combined


@overload
def chord(
    header: TypedGroup[T] | Iterable[TypedSignature[T]], body: PartialSignature[list[T], U], /
) -> TypedSignature[U]: ...
@overload
def chord(
    header: TypedGroup[T] | Iterable[TypedSignature[T]], body: ImmutableSignature[U], /
) -> TypedSignature[U]: ...
def chord(header: Signature[Any] | Iterable[TypedSignature[Any]], body: Signature[Any], /) -> Any:
    """A group and a task that gets the list of its results, as ``group | body``.

    Args:
        header: The group, or the calls for one.
        body: What runs when all of them have succeeded.
    """
    calls: Signature[Any] = header if isinstance(header, Signature) else group(header)
    return calls | body

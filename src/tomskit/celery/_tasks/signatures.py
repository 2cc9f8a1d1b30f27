"""Signatures, chains, groups and chords that know what goes in and what comes out.

They are Celery's own classes, with the types of the first argument and of the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    NamedTuple,
    Never,
    Self,
    TypeAlias,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from celery import canvas
from celery.canvas import Signature
from celery.result import GroupResult
from typing_extensions import override

from tomskit.celery._client.client import send
from tomskit.celery._client.result import TypedEagerResult, TypedGroupResult, TypedResult
from tomskit.celery._values.codec import Codec
from tomskit.celery.options import CallOptions

__all__ = (
    "ImmutableGroup",
    "ImmutableSignature",
    "PartialGroup",
    "PartialSignature",
    "TypedGroup",
    "TypedSignature",
    "chain",
    "chord",
    "group",
)

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
U = TypeVar("U")
In_contra = TypeVar("In_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

_Any: TypeAlias = Any
"""A signature of Celery's, whose types say nothing of what it holds."""


class TypedSignature(Signature[R_co]):
    """A call with all its arguments, of a task or of a chain or chord of tasks.

    Send it as it is, or let others follow with ``|``: they get its result as their first argument.
    """

    if TYPE_CHECKING:

        @override
        def delay(self) -> TypedResult[R_co]: ...
        @override
        def apply_async(  # type: ignore[override]
            self, args: None = None, kwargs: None = None, **options: Unpack[CallOptions]
        ) -> TypedResult[R_co]: ...
        @override
        def apply(self, args: None = None, kwargs: None = None) -> TypedEagerResult[R_co]: ...  # type: ignore[override]
        @override
        def set(self, immutable: bool | None = None, **options: Unpack[CallOptions]) -> Self: ...  # type: ignore[override]
        @override
        def clone(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            self, args: None = None, kwargs: None = None, **options: Unpack[CallOptions]
        ) -> Self: ...
        @override
        def on_error(self, errback: Signature[object]) -> Self: ...  # type: ignore[override]
        @override
        def link(  # type: ignore[override]
            self, callback: PartialSignature[R_co, object] | ImmutableSignature[object]
        ) -> Signature[object]: ...

    else:

        def clone(self, args=None, kwargs=None, **options):
            return _typed(super().clone(args, kwargs, **options), like=self)

    async def adelay(self) -> TypedResult[R_co]:
        """Send it without blocking the event loop."""
        return await send(self.app, self.delay)

    @overload  # type: ignore[override]
    def __or__(self, other: PartialSignature[R_co, U], /) -> TypedSignature[U]: ...
    @overload
    def __or__(self, other: ImmutableSignature[U], /) -> TypedSignature[U]: ...
    @overload
    def __or__(self, other: PartialGroup[R_co, U], /) -> TypedGroup[U]: ...
    @overload
    def __or__(self, other: ImmutableGroup[U], /) -> TypedGroup[U]: ...
    @override
    def __or__(self, other: Signature[object], /) -> _Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _compose(self, other)

    if TYPE_CHECKING:

        @override
        def __ror__(self, other: Never, /) -> Never: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    else:

        def __ror__(self, other):
            return _after_nothing_else(other)


class ImmutableSignature(TypedSignature[R_co]):
    """A call with all its arguments, made with ``.si()``: what runs before it gives it nothing."""


class PartialSignature(Signature[R_co], Generic[In_contra, R_co]):
    """A call whose first argument comes from the task before it."""

    if TYPE_CHECKING:

        @override
        def delay(self, upstream: In_contra, /) -> TypedResult[R_co]: ...
        @override
        def apply_async(  # type: ignore[override]
            self, args: tuple[In_contra], kwargs: None = None, **options: Unpack[CallOptions]
        ) -> TypedResult[R_co]: ...
        @override
        def apply(self, args: tuple[In_contra], kwargs: None = None) -> TypedEagerResult[R_co]: ...  # type: ignore[override]
        @override
        def set(self, immutable: None = None, **options: Unpack[CallOptions]) -> Self: ...  # type: ignore[override]
        @override
        def clone(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            self, args: None = None, kwargs: None = None, **options: Unpack[CallOptions]
        ) -> Self: ...
        @override
        def on_error(self, errback: Signature[object]) -> Self: ...  # type: ignore[override]
        @override
        def link(  # type: ignore[override]
            self, callback: PartialSignature[R_co, object] | ImmutableSignature[object]
        ) -> Signature[object]: ...

    else:

        def delay(self, *upstream, **kwargs):
            return super().delay(*_with_first(self, upstream), **kwargs)

        def clone(self, args=None, kwargs=None, **options):
            return _typed(super().clone(args, kwargs, **options), like=self)

    async def adelay(self, upstream: In_contra, /) -> TypedResult[R_co]:
        """Send it with its first argument, without blocking the event loop."""
        return await send(self.app, partial(self.delay, upstream))

    @overload  # type: ignore[override]
    def __or__(self, other: PartialSignature[R_co, U], /) -> PartialSignature[In_contra, U]: ...
    @overload
    def __or__(self, other: ImmutableSignature[U], /) -> PartialSignature[In_contra, U]: ...
    @overload
    def __or__(self, other: PartialGroup[R_co, U], /) -> PartialGroup[In_contra, U]: ...
    @overload
    def __or__(self, other: ImmutableGroup[U], /) -> PartialGroup[In_contra, U]: ...
    @override
    def __or__(self, other: Signature[object], /) -> _Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _compose(self, other)

    if TYPE_CHECKING:

        @override
        def __ror__(self, other: Never, /) -> Never: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    else:

        def __ror__(self, other):
            return _after_nothing_else(other)


class TypedGroup(Signature[object], Generic[R_co]):
    """Calls that run at the same time, with all their arguments. Their result is a list."""

    if TYPE_CHECKING:

        @override
        def delay(self) -> TypedGroupResult[R_co]: ...  # type: ignore[override]
        @override
        def apply_async(  # type: ignore[override]
            self, args: None = None, kwargs: None = None, **options: Unpack[CallOptions]
        ) -> TypedGroupResult[R_co]: ...
        @override
        def apply(self, args: None = None, kwargs: None = None) -> TypedGroupResult[R_co]: ...  # type: ignore[override]
        @override
        def set(self, immutable: bool | None = None, **options: Unpack[CallOptions]) -> Self: ...  # type: ignore[override]
        @override
        def clone(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            self, args: None = None, kwargs: None = None, **options: Unpack[CallOptions]
        ) -> Self: ...
        @override
        def on_error(self, errback: Signature[object]) -> Self: ...  # type: ignore[override]
        @override
        def link(self, callback: ImmutableSignature[object]) -> Signature[object]: ...  # type: ignore[override]

    else:

        def apply_async(self, *args, **options):
            return _typed_results(super().apply_async(*args, **options))

        def apply(self, *args, **options):
            return _typed_results(super().apply(*args, **options))

        def clone(self, args=None, kwargs=None, **options):
            return _typed(super().clone(args, kwargs, **options), like=self)

    async def adelay(self) -> TypedGroupResult[R_co]:
        """Send them without blocking the event loop."""
        return await send(self.app, self.delay)

    @overload  # type: ignore[override]
    def __or__(self, other: PartialSignature[list[R_co], U], /) -> TypedSignature[U]: ...
    @overload
    def __or__(self, other: ImmutableSignature[U], /) -> TypedSignature[U]: ...
    @override
    def __or__(self, other: Signature[object], /) -> _Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _compose(self, other)

    if TYPE_CHECKING:

        @override
        def __ror__(self, other: Never, /) -> Never: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    else:

        def __ror__(self, other):
            return _after_nothing_else(other)


class ImmutableGroup(TypedGroup[R_co]):
    """Calls that run at the same time, which what runs before them gives nothing."""


class PartialGroup(Signature[object], Generic[In_contra, R_co]):
    """Calls that run at the same time, each with the result of the task before them."""

    if TYPE_CHECKING:

        @override
        def delay(self, upstream: In_contra, /) -> TypedGroupResult[R_co]: ...  # type: ignore[override]
        @override
        def apply_async(  # type: ignore[override]
            self, args: tuple[In_contra], kwargs: None = None, **options: Unpack[CallOptions]
        ) -> TypedGroupResult[R_co]: ...
        @override
        def apply(self, args: tuple[In_contra], kwargs: None = None) -> TypedGroupResult[R_co]: ...  # type: ignore[override]
        @override
        def clone(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            self, args: None = None, kwargs: None = None, **options: Unpack[CallOptions]
        ) -> Self: ...
        @override
        def on_error(self, errback: Signature[object]) -> Self: ...  # type: ignore[override]
        @override
        def link(self, callback: ImmutableSignature[object]) -> Signature[object]: ...  # type: ignore[override]
        @override
        def set(self, immutable: None = None, **options: Unpack[CallOptions]) -> Self: ...  # type: ignore[override]

    else:

        def delay(self, *upstream, **kwargs):
            return super().delay(*_with_first(self, upstream), **kwargs)

        def apply_async(self, *args, **options):
            return _typed_results(super().apply_async(*args, **options))

        def apply(self, *args, **options):
            return _typed_results(super().apply(*args, **options))

        def clone(self, args=None, kwargs=None, **options):
            return _typed(super().clone(args, kwargs, **options), like=self)

    async def adelay(self, upstream: In_contra, /) -> TypedGroupResult[R_co]:
        """Send them with their first argument, without blocking the event loop."""
        return await send(self.app, partial(self.delay, upstream))

    @overload  # type: ignore[override]
    def __or__(
        self, other: PartialSignature[list[R_co], U], /
    ) -> PartialSignature[In_contra, U]: ...
    @overload
    def __or__(self, other: ImmutableSignature[U], /) -> PartialSignature[In_contra, U]: ...
    @override
    def __or__(self, other: Signature[object], /) -> _Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _compose(self, other)

    if TYPE_CHECKING:

        @override
        def __ror__(self, other: Never, /) -> Never: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    else:

        def __ror__(self, other):
            return _after_nothing_else(other)


def _both(ours: type[_Any], celerys: type[_Any]) -> type[_Any]:
    """A class of ours that Celery, too, takes for what it is: Celery looks for bases of its own."""
    return cast("type[_Any]", type(ours.__name__, (ours, celerys), {"__module__": __name__}))


class _Classes(NamedTuple):
    """Our class for each of Celery's."""

    signature: type[_Any]
    chain: type[_Any]
    chord: type[_Any]
    group: type[_Any]
    chain_into_group: type[_Any]

    def of(self, signature: _Any) -> type[_Any]:
        if isinstance(signature, canvas.group):
            return self.group
        if isinstance(signature, canvas.chord):
            return self.chord
        if isinstance(signature, canvas._chain):
            tasks = signature.tasks
            into_group = tasks and isinstance(tasks[-1], canvas.group)
            return self.chain_into_group if into_group else self.chain
        return self.signature


_COMPLETE: Final = _Classes(
    signature=TypedSignature,
    chain=_both(TypedSignature, canvas._chain),
    chord=_both(TypedSignature, canvas.chord),
    group=_both(TypedGroup, canvas.group),
    chain_into_group=_both(TypedGroup, canvas._chain),
)
_IMMUTABLE: Final = _COMPLETE._replace(
    signature=ImmutableSignature, group=_both(ImmutableGroup, canvas.group)
)
_PARTIAL: Final = _Classes(
    signature=PartialSignature,
    chain=_both(PartialSignature, canvas._chain),
    chord=_both(PartialSignature, canvas.chord),
    group=_both(PartialGroup, canvas.group),
    chain_into_group=_both(PartialGroup, canvas._chain),
)


def _is_partial(signature: _Any) -> bool:
    return isinstance(signature, (PartialSignature, PartialGroup))


def _typed(signature: _Any, *, like: _Any) -> _Any:
    """Celery's signature as one of ours that waits for as much as `like` does."""
    classes = _PARTIAL if _is_partial(like) else _COMPLETE
    if isinstance(like, (ImmutableSignature, ImmutableGroup)):
        classes = _IMMUTABLE
    ours = classes.of(signature)
    return signature if type(signature) is ours else _as(ours, signature)


def _as(ours: type[_Any], signature: _Any) -> _Any:
    # Not through __init__: Celery's classes keep their parts in other forms than they take them.
    typed: _Any = dict.__new__(ours)
    dict[str, object].update(typed, signature)
    typed.__dict__.update(signature.__dict__)
    return typed


def _compose(left: _Any, other: object) -> _Any:
    """What ``left | other`` is."""
    _require_signature(other)
    right = cast("_Any", other)
    _refuse_second_start(right)
    if isinstance(right, canvas.group) and len(right.tasks) == 1 and not _is(left, canvas.group):
        # Celery would put the one task in the place of the group, whose result is no list then.
        steps: list[_Any] = left.unchain_tasks() if _is(left, canvas._chain) else [left]
        return _typed(canvas._chain(*steps, right, app=left._app), like=left)
    celerys: _Any = next(kind for kind in _CELERYS if _is(left, kind))
    combined: _Any = celerys.__or__(left, right)
    return combined if combined is NotImplemented else _typed(combined, like=left)


def _after_nothing_else(other: object) -> _Any:
    _require_signature(other)
    # It knows how to go on.
    return NotImplemented


def _require_signature(other: object) -> None:
    # Signatures are dicts, and a dict would take any other one with |.
    if not isinstance(other, Signature):
        kind = type(other).__qualname__
        raise TypeError(
            f"Signatures are joined with signatures, not with a {kind}: make one of a task with "
            "task.s(...), task.si(...) or task.p(...)."
        )


def _is(signature: _Any, kind: type[_Any]) -> bool:
    # isinstance(), without what checkers conclude from it.
    return isinstance(signature, kind)


def _refuse_second_start(signature: _Any) -> None:
    """A result would come in front of arguments that are complete without it."""
    if type(signature) is not TypedSignature or signature.immutable:
        return
    codec = _codec_of(signature)
    if codec is not None:
        codec.check_follower(tuple(signature.args), signature.kwargs)


def _codec_of(signature: _Any) -> Codec | None:
    try:
        task: object = signature.type
    except KeyError:
        # Of another program; it is not registered here.
        return None
    return cast("Codec | None", getattr(task, "_tomskit_codec", None))


def _first_steps(signature: _Any) -> Iterator[_Any]:
    """The tasks that get a signature's first argument."""
    if isinstance(signature, canvas._chain):
        yield from _first_steps(signature.tasks[0])
    elif isinstance(signature, (canvas.group, canvas.chord)):
        for task in signature.tasks:
            yield from _first_steps(task)
    else:
        yield signature


def _with_first(signature: _Any, upstream: tuple[object, ...]) -> tuple[object, ...]:
    """The arguments that come later, checked against the parameters that they are for."""
    if not upstream:
        return upstream
    first = upstream[0]
    for step in _first_steps(signature):
        codec = None if step.immutable else _codec_of(step)
        if codec is not None:
            first = codec.check_first(upstream[0])
    return (first, *upstream[1:])


def _typed_results(result: _Any) -> TypedGroupResult[object]:
    if isinstance(result, TypedGroupResult):
        return cast("TypedGroupResult[object]", result)
    # Celery runs a group of one task as that task.
    results = result.results if isinstance(result, GroupResult) else [result]
    return TypedGroupResult(result.id, results, parent=result.parent, app=result.app)


_CELERYS: Final = (canvas.group, canvas.chord, canvas._chain, Signature)

Step: TypeAlias = PartialSignature[T, U] | ImmutableSignature[U]
"""What may follow a task that returns T."""
GroupStep: TypeAlias = PartialGroup[T, U] | ImmutableGroup[U]
"""The calls at the same time that may."""


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
def group(
    *signatures: Signature[object] | Iterable[Signature[object]],
) -> _Any:
    """Calls that run at the same time, as Celery's ``group`` makes them.

    Args:
        *signatures: Calls with all their arguments; or calls that all wait for their first one,
            which is the result of the task before the group. One iterable of them does as well.

    Returns:
        A signature whose result is a list in the order of the calls.
    """
    members: list[_Any] = []
    for one in signatures:
        members.extend([one] if isinstance(one, Signature) else one)
    plain = canvas.group(members)
    partial = next((one for one in members if _is_partial(one)), None)
    if partial is not None:
        return _typed(plain, like=partial)
    immutable = members and all(isinstance(one, ImmutableSignature) for one in members)
    return _as((_IMMUTABLE if immutable else _COMPLETE).group, plain)


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
def chain(*signatures: Signature[object]) -> _Any:
    """Tasks one after the other, as ``a | b | c``: each gets the result of the one before it.

    Args:
        *signatures: Two to six. Of more, chain the chains with ``|``.
    """
    if not signatures:
        raise TypeError("A chain has at least one signature.")
    combined: _Any = signatures[0]
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
def chord(header: _Any, body: _Any, /) -> _Any:
    """A group and a task that gets the list of its results, as ``group | body``.

    Args:
        header: The group, or the calls for one.
        body: What runs when all of them have succeeded.
    """
    return (header if _is(header, Signature) else cast("_Any", group(header))) | body

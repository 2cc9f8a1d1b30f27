"""Signatures and groups with the types of their first argument and of their result.

They are Celery's own classes. A chain or chord is a signature here, as its result is that of one task.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, Unpack, overload

from celery import canvas
from celery.canvas import Signature
from celery.result import AsyncResult, GroupResult
from typing_extensions import TypeIs, override

from tomskit.celery._client.client import send
from tomskit.celery._client.ignored import mark_ignored, noting_ignored
from tomskit.celery._client.result import TypedEagerResult, TypedResult
from tomskit.celery._client.result_sets import TypedGroupResult
from tomskit.celery._internals.celery_tasks import ChainSignature
from tomskit.celery._outbox.commits import asend_on_commit, send_on_commit
from tomskit.celery._tasks.signature_base import SignatureBase, TypedClasses, with_celery_class
from tomskit.celery._tasks.signature_checks import check_follower, check_upstream
from tomskit.celery.options import CallOptions

__all__ = (
    "COMPLETE",
    "IMMUTABLE",
    "PARTIAL",
    "ImmutableGroup",
    "ImmutableSignature",
    "PartialGroup",
    "PartialSignature",
    "TypedGroup",
    "TypedSignature",
)

U = TypeVar("U")
In_contra = TypeVar("In_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class TypedSignature(SignatureBase[R_co]):
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
        def link(  # type: ignore[override]
            self, callback: PartialSignature[R_co, object] | ImmutableSignature[object]
        ) -> Signature[object]: ...

    async def adelay(self) -> TypedResult[R_co]:
        """Send it without blocking the event loop."""
        return await send(self.app, self.delay)

    def delay_on_commit(self) -> TypedResult[R_co]:
        """Send it when the transaction of ``db.session`` is committed."""
        return send_on_commit(self.app, self.delay, lambda: self)

    async def adelay_on_commit(self) -> TypedResult[R_co]:
        """Send it when the transaction of ``db.session`` is committed."""
        return await asend_on_commit(self.app, self.delay, lambda: self)

    @overload  # type: ignore[override]
    def __or__(self, other: PartialSignature[R_co, U], /) -> TypedSignature[U]: ...
    @overload
    def __or__(self, other: ImmutableSignature[U], /) -> TypedSignature[U]: ...
    @overload
    def __or__(self, other: PartialGroup[R_co, U], /) -> TypedGroup[U]: ...
    @overload
    def __or__(self, other: ImmutableGroup[U], /) -> TypedGroup[U]: ...
    @override
    def __or__(self, other: Signature[object], /) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._join(other)

    @override
    def _check_as_follower(self) -> None:
        # Immutable signatures and chains are of subclasses.
        if type(self) is TypedSignature and not self.immutable:
            check_follower(self)


class ImmutableSignature(TypedSignature[R_co]):
    """A call with all its arguments, made with ``.si()``: it ignores the result of the task before it."""


class PartialSignature(SignatureBase[R_co], Generic[In_contra, R_co]):
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
        def link(  # type: ignore[override]
            self, callback: PartialSignature[R_co, object] | ImmutableSignature[object]
        ) -> Signature[object]: ...

    else:

        def delay(self, *upstream: object, **kwargs: object) -> Any:
            return super().delay(*check_upstream(self, upstream), **kwargs)

    async def adelay(self, upstream: In_contra, /) -> TypedResult[R_co]:
        """Send it with its first argument, without blocking the event loop."""
        return await send(self.app, partial(self.delay, upstream))

    def delay_on_commit(self, upstream: In_contra, /) -> TypedResult[R_co]:
        """Send it with its first argument when ``db.session`` is committed."""
        return send_on_commit(
            self.app,
            partial(self.delay, upstream),
            lambda: self,
            lambda: check_upstream(self, (upstream,)),
        )

    async def adelay_on_commit(self, upstream: In_contra, /) -> TypedResult[R_co]:
        """Send it with its first argument when ``db.session`` is committed."""
        return await asend_on_commit(
            self.app,
            partial(self.delay, upstream),
            lambda: self,
            lambda: check_upstream(self, (upstream,)),
        )

    @overload  # type: ignore[override]
    def __or__(self, other: PartialSignature[R_co, U], /) -> PartialSignature[In_contra, U]: ...
    @overload
    def __or__(self, other: ImmutableSignature[U], /) -> PartialSignature[In_contra, U]: ...
    @overload
    def __or__(self, other: PartialGroup[R_co, U], /) -> PartialGroup[In_contra, U]: ...
    @overload
    def __or__(self, other: ImmutableGroup[U], /) -> PartialGroup[In_contra, U]: ...
    @override
    def __or__(self, other: Signature[object], /) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._join(other)


class _Group(SignatureBase[object]):
    """A signature whose result is a group's."""

    if TYPE_CHECKING:

        @override
        def link(self, callback: ImmutableSignature[object]) -> Signature[object]: ...  # type: ignore[override]

    else:

        def apply_async(self, *args: object, **options: object) -> TypedGroupResult[object]:
            with noting_ignored() as ids:
                result = _typed_results(super().apply_async(*args, **options))
            mark_ignored(result, ids)
            return result

        def apply(self, *args: object, **options: object) -> TypedGroupResult[object]:
            return _typed_results(super().apply(*args, **options))


class TypedGroup(_Group, Generic[R_co]):
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

    async def adelay(self) -> TypedGroupResult[R_co]:
        """Send them without blocking the event loop."""
        return await send(self.app, self.delay)

    def delay_on_commit(self) -> TypedGroupResult[R_co]:
        """Send them when the transaction of ``db.session`` is committed."""
        return send_on_commit(self.app, self.delay, lambda: self)

    async def adelay_on_commit(self) -> TypedGroupResult[R_co]:
        """Send them when the transaction of ``db.session`` is committed."""
        return await asend_on_commit(self.app, self.delay, lambda: self)

    @overload  # type: ignore[override]
    def __or__(self, other: PartialSignature[list[R_co], U], /) -> TypedSignature[U]: ...
    @overload
    def __or__(self, other: ImmutableSignature[U], /) -> TypedSignature[U]: ...
    @override
    def __or__(self, other: Signature[object], /) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._join(other)


class ImmutableGroup(TypedGroup[R_co]):
    """Calls that run at the same time and ignore the result of the task before them."""


class PartialGroup(_Group, Generic[In_contra, R_co]):
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
        def set(self, immutable: None = None, **options: Unpack[CallOptions]) -> Self: ...  # type: ignore[override]

    else:

        def delay(self, *upstream: object, **kwargs: object) -> Any:
            return super().delay(*check_upstream(self, upstream), **kwargs)

    async def adelay(self, upstream: In_contra, /) -> TypedGroupResult[R_co]:
        """Send them with their first argument, without blocking the event loop."""
        return await send(self.app, partial(self.delay, upstream))

    def delay_on_commit(self, upstream: In_contra, /) -> TypedGroupResult[R_co]:
        """Send them with their first argument when ``db.session`` is committed."""
        return send_on_commit(
            self.app,
            partial(self.delay, upstream),
            lambda: self,
            lambda: check_upstream(self, (upstream,)),
        )

    async def adelay_on_commit(self, upstream: In_contra, /) -> TypedGroupResult[R_co]:
        """Send them with their first argument when ``db.session`` is committed."""
        return await asend_on_commit(
            self.app,
            partial(self.delay, upstream),
            lambda: self,
            lambda: check_upstream(self, (upstream,)),
        )

    @overload  # type: ignore[override]
    def __or__(
        self, other: PartialSignature[list[R_co], U], /
    ) -> PartialSignature[In_contra, U]: ...
    @overload
    def __or__(self, other: ImmutableSignature[U], /) -> PartialSignature[In_contra, U]: ...
    @override
    def __or__(self, other: Signature[object], /) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._join(other)


def _typed_results(result: AsyncResult[Any] | GroupResult) -> TypedGroupResult[object]:
    if _is_typed(result):
        return result
    # Celery runs a group of one task as that task.
    results = result.results if isinstance(result, GroupResult) else [result]
    return TypedGroupResult(result.id, results, parent=result.parent, app=result.app)


def _is_typed(result: object) -> TypeIs[TypedGroupResult[object]]:
    return isinstance(result, TypedGroupResult)


COMPLETE: Final = TypedClasses(
    signature=TypedSignature,
    chain=with_celery_class(TypedSignature, ChainSignature),
    chord=with_celery_class(TypedSignature, canvas.chord),
    group=with_celery_class(TypedGroup, canvas.group),
    chain_into_group=with_celery_class(TypedGroup, ChainSignature),
)
IMMUTABLE: Final = COMPLETE._replace(
    signature=ImmutableSignature, group=with_celery_class(ImmutableGroup, canvas.group)
)
PARTIAL: Final = TypedClasses(
    signature=PartialSignature,
    chain=with_celery_class(PartialSignature, ChainSignature),
    chord=with_celery_class(PartialSignature, canvas.chord),
    group=with_celery_class(PartialGroup, canvas.group),
    chain_into_group=with_celery_class(PartialGroup, ChainSignature),
)
TypedSignature._classes = TypedGroup._classes = COMPLETE
ImmutableSignature._classes = ImmutableGroup._classes = IMMUTABLE
PartialSignature._classes = PartialGroup._classes = PARTIAL

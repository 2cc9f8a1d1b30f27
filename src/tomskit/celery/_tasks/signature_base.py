"""SignatureBase: what all typed signatures share.

A typed signature is Celery's own signature with the types of its first argument and of its result.
Whatever Celery makes of one (a clone, a chain, a chord) becomes typed again here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Never, Self, TypeVar, Unpack

from celery import canvas
from celery.canvas import Signature
from typing_extensions import override

from tomskit.celery._client.ignored import ignores_result
from tomskit.celery._internals.celery_tasks import ChainSignature
from tomskit.celery._tasks.signature_checks import require_signature
from tomskit.celery.options import CallOptions

__all__ = ("SignatureBase", "TypedClasses", "copy_as", "with_celery_class")

R_co = TypeVar("R_co", covariant=True)


class SignatureBase(Signature[R_co]):
    """A signature whose clones and compositions are typed as well."""

    _classes: ClassVar[TypedClasses]
    """The classes of what is made of this signature; set where the classes are defined."""

    if TYPE_CHECKING:

        @override
        def clone(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            self, args: None = None, kwargs: None = None, **options: Unpack[CallOptions]
        ) -> Self: ...
        @override
        def on_error(self, errback: Signature[object]) -> Self: ...  # type: ignore[override]
        @override
        def __ror__(self, other: Never, /) -> Never: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    else:

        def clone(
            self,
            args: tuple[object, ...] | None = None,
            kwargs: dict[str, object] | None = None,
            **options: object,
        ) -> SignatureBase[R_co]:
            return self._classes.typed(super().clone(args, kwargs, **options))

        def __ror__(self, other: object) -> Any:
            require_signature(other)
            # What is on the left has refused to join them.
            return NotImplemented

        def freeze(self, *args: object, **options: object) -> Any:
            result = super().freeze(*args, **options)
            if "tasks" not in self and ignores_result(self):
                result.ignored = True
            return result

    def _join(self, other: Signature[Any]) -> Any:
        """``self | other``, typed."""
        require_signature(other)
        if isinstance(other, SignatureBase):
            other._check_as_follower()
        if (
            isinstance(other, canvas.group)
            and len(other.tasks) == 1
            and not isinstance(self, canvas.group)
        ):
            # Celery would replace a group of one task with the task, whose result is no list.
            steps = self.unchain_tasks() if isinstance(self, ChainSignature) else [self]
            return self._classes.typed(ChainSignature(*steps, other, app=self.app))
        # Celery's class comes next among the bases: Signature, group, chord or the chain.
        joined = super().__or__(other)
        return joined if joined is NotImplemented else self._classes.typed(joined)

    def _check_as_follower(self) -> None:
        """Check that a result fits in front of the arguments."""


class TypedClasses(NamedTuple):
    """The typed class for each of Celery's classes."""

    signature: type[SignatureBase[Any]]
    chain: type[SignatureBase[Any]]
    chord: type[SignatureBase[Any]]
    group: type[SignatureBase[Any]]
    chain_into_group: type[SignatureBase[Any]]

    def typed(self, signature: Signature[Any]) -> Any:
        """A signature that Celery made, as an instance of the typed class for it."""
        kind = self._of(signature)
        return signature if type(signature) is kind else copy_as(kind, signature)

    def _of(self, signature: Signature[Any]) -> type[SignatureBase[Any]]:
        if isinstance(signature, canvas.group):
            return self.group
        if isinstance(signature, canvas.chord):
            return self.chord
        if isinstance(signature, ChainSignature):
            ends_in_group = signature.tasks and isinstance(signature.tasks[-1], canvas.group)
            return self.chain_into_group if ends_in_group else self.chain
        return self.signature


def copy_as(kind: type[SignatureBase[Any]], signature: Signature[Any]) -> SignatureBase[Any]:
    """The same signature as an instance of another class."""
    # Without __init__: Celery's classes take their parts in other forms than they keep them.
    copy = dict.__new__(kind)
    dict[str, Any].update(copy, signature)
    copy.__dict__.update(signature.__dict__)
    return copy


def with_celery_class(
    typed: type[SignatureBase[Any]], celery_class: type[Signature[Any]]
) -> type[SignatureBase[Any]]:
    """A typed class that is a subclass of Celery's as well, which Celery tests for."""
    made: type[Any] = type(typed.__name__, (typed, celery_class), {"__module__": typed.__module__})
    return made

"""What is alive of the objects that were noted, whichever threads note them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

__all__ = ("LivingSet", "living_keys")

T = TypeVar("T")


def living_keys(known: WeakKeyDictionary[T, Any]) -> list[T]:
    """The keys of a dictionary that are alive at this moment.

    To iterate over the dictionary itself raises RuntimeError where another thread adds a key meanwhile.
    """
    # CPython makes this list of references in one step; see test_living.
    return [key for reference in known.keyrefs() if (key := reference()) is not None]


class LivingSet(Generic[T]):
    """Objects for as long as somebody else keeps them.

    In place of ``weakref.WeakSet``, over which a thread cannot iterate while another one adds to it.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[T, object] = WeakKeyDictionary()

    def add(self, one: T) -> None:
        """Note one; nothing changes where it is known."""
        self._known[one] = None

    def discard(self, one: T) -> None:
        """Forget one, known or not."""
        self._known.pop(one, None)

    def __contains__(self, one: object) -> bool:
        return one in self._known

    def __iter__(self) -> Iterator[T]:
        return iter(living_keys(self._known))

"""The three plug points. Anything of the right shape fits; nothing has to be imported.

Data members are read-only properties and parameters are positional-only, so class
attributes, instance attributes, properties and other parameter names all satisfy them.

The least one must write:

* `Runtime`: a class with ``init(app)``, ``run(coro)`` and ``shutdown()``, or an object of one.
* `ResourceProvider`: a ``name``, ``async startup()``, ``async shutdown()`` and ``task_scope()``
  that returns an async context manager.
* `Serializer`: ``name``, ``content_type``, ``content_encoding``, ``dumps(obj)`` and
  ``loads(data)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Never, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AbstractAsyncContextManager

    from celery import Celery

__all__ = ("ResourceProvider", "Runtime", "Serializer")

T = TypeVar("T")


@runtime_checkable
class Runtime(Protocol):
    """Runs coroutines for code that is not a coroutine.

    Satisfied by an object, or by a class whose methods are class methods, as
    `tomskit.celery.AsyncRuntime` is.
    """

    def init(self, app: Celery, /) -> None:
        """Get ready to run coroutines of this app's tasks in this process."""

    def run(self, coro: Coroutine[object, Never, T], /) -> T:
        """Run `coro` to its end and return its result, or raise what it raised."""
        ...

    def shutdown(self) -> None:
        """Release everything that `init` made."""


@runtime_checkable
class ResourceProvider(Protocol):
    """Something that tasks use and that lives as long as an event loop: a pool, a client."""

    @property
    def name(self) -> str:
        """Unique within an app; error messages and log lines use it."""
        ...

    async def startup(self) -> None:
        """Open it. Called once for every event loop that runs tasks, inside that loop."""

    async def shutdown(self) -> None:
        """Close what `startup` opened for the running event loop."""

    def task_scope(self) -> AbstractAsyncContextManager[object]:
        """An async context manager that is entered before each task and left after it."""
        ...


@runtime_checkable
class Serializer(Protocol):
    """Turns message bodies and results into text or bytes, and back."""

    @property
    def name(self) -> str:
        """What ``task_serializer`` and its siblings call it."""
        ...

    @property
    def content_type(self) -> str:
        """The MIME type that goes with each message and finds the decoder again."""
        ...

    @property
    def content_encoding(self) -> str:
        """``"utf-8"`` for text, ``"binary"`` for bytes."""
        ...

    def dumps(self, obj: object, /) -> str | bytes:
        """Encode `obj`, or raise when it cannot be encoded without loss."""
        ...

    def loads(self, data: str | bytes, /) -> object:
        """Decode what `dumps` made."""
        ...

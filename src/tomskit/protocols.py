"""The three extension points, as protocols: a class needs the right methods, not a base class.

Data members are read-only properties and parameters are positional-only, so class
attributes, instance attributes, properties and other parameter names all satisfy them.

What each one requires:

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
    """Runs coroutines for synchronous code.

    An object satisfies it, and so does a class whose methods are class methods, such as
    `tomskit.celery.AsyncRuntime`.
    """

    def init(self, app: Celery, /) -> None:
        """Get ready to run coroutines of this app's tasks in this process."""

    def run(self, coro: Coroutine[object, Never, T], /) -> T:
        """Run `coro` until it ends, and return its result or raise its error."""
        ...

    def shutdown(self) -> None:
        """Release everything that `init` created."""


@runtime_checkable
class ResourceProvider(Protocol):
    """Provides what tasks use and what lives as long as an event loop: a pool, a client."""

    @property
    def name(self) -> str:
        """A name, unique within an app, for error messages and log lines."""
        ...

    async def startup(self) -> None:
        """Open it. Called once for every event loop that runs tasks, inside that loop."""

    async def shutdown(self) -> None:
        """Close what `startup` opened for the running event loop."""

    def task_scope(self) -> AbstractAsyncContextManager[object]:
        """An async context manager that is entered before each task and exited after it."""
        ...


@runtime_checkable
class Serializer(Protocol):
    """Encodes message bodies and results as text or bytes, and decodes them."""

    @property
    def name(self) -> str:
        """The name for ``task_serializer``, ``result_serializer`` and ``accept_content``."""
        ...

    @property
    def content_type(self) -> str:
        """The MIME type that each message carries, by which its reader finds the decoder."""
        ...

    @property
    def content_encoding(self) -> str:
        """``"utf-8"`` for text, ``"binary"`` for bytes."""
        ...

    def dumps(self, obj: object, /) -> str | bytes:
        """Encode `obj`, or raise if that would lose data."""
        ...

    def loads(self, data: str | bytes, /) -> object:
        """Decode what `dumps` returned."""
        ...

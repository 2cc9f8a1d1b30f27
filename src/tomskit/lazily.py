"""cached_property, as threads and forked processes need it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

__all__ = ("cached_property",)

if TYPE_CHECKING:
    from functools import cached_property
else:

    class cached_property(functools.cached_property):  # noqa: N801 (it takes the place of Python's)
        """An attribute that is made when it is first asked for, and is the same object to all threads.

        Threads that ask at the same time may each make one, of which only one is ever seen: what makes it
        has no effects. Python 3.11 has a lock for that, one for all objects of a class, which a forked process
        finds held for ever if another thread held it; and later versions give each of the threads its own.
        """

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                return self
            attributes = instance.__dict__
            if self.attrname in attributes:  # called by a subclass's property, or by hand
                return attributes[self.attrname]
            return attributes.setdefault(self.attrname, self.func(instance))

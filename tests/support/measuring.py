"""Processes that coverage measures, and whose threads end at the same time.

Coverage's tracer has a `weakref.WeakKeyDictionary` for each thread, with a key for each greenlet. When a thread ends,
greenlet has the main thread drop the thread's greenlets, between two of its instructions, and the dictionary's callback
runs. That is a function in Python: before its first line Python does what else there is to do between two instructions,
and if another thread has ended meanwhile, Python 3.11 finds for ever, where a function is traced, that there is something
and that it is already about it. The process computes until its test's time is over.
"""

import weakref
from collections.abc import Iterator
from typing import Any

from typing_extensions import override


class _RemovingAtOnce(weakref.WeakKeyDictionary[Any, Any]):
    """One that removes a key whose object is gone without a function in Python.

    Such a function would also see to it that nothing is removed while somebody iterates. Here they have a copy.
    """

    data: dict[weakref.ref[Any], Any]

    @override
    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self._remove = self.data.__delitem__
        self.update(*arguments)

    @override
    def items(self) -> Iterator[tuple[Any, Any]]:  # type: ignore[override]
        for key, value in list(self.data.items()):
            if (alive := key()) is not None:
                yield alive, value

    @override
    def keys(self) -> Iterator[Any]:  # type: ignore[override]
        return (key for key, _ in self.items())

    @override
    def values(self) -> Iterator[Any]:  # type: ignore[override]
        return (value for _, value in self.items())

    @override
    def __iter__(self) -> Iterator[Any]:
        return self.keys()


def let_threads_end() -> None:
    """Let any number of threads end at the same time in this process, which is measured, or will be."""
    module: Any = weakref
    module.WeakKeyDictionary = _RemovingAtOnce

"""Lines that only a stream gets: their text is written as it is, those of a turn of the event loop together.

Each write takes 2 to 4 us, and a worker writes two lines for each task.
"""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from operator import attrgetter
from typing import Any, Final

from typing_extensions import override

__all__ = ("MakeText", "TextMaker", "only_stream", "write_line", "write_together")

Stream = logging.StreamHandler[Any]

_MOST: Final = 100
"""How many lines wait at most."""

_FILES: Final = {logging.__file__, logging.handlers.__file__}
_OF_LOGGERS: Final = ("handle", "callHandlers")
_OF_HANDLERS: Final = ("handle", "emit", "format", "flush")


MakeText = Callable[[float, Mapping[str, object], str], str | None]
"""Makes the text of a line of its time, its arguments and the id of its task; None if it needs a record."""


class TextMaker(logging.Formatter):
    """A formatter that needs no record."""

    def texts_of(self, attributes: Mapping[str, Any]) -> MakeText | None:
        """What makes the texts of records that differ from one with these attributes in nothing else.

        None if it needs records.
        """
        raise NotImplementedError


def _pythons(kind: type, names: tuple[str, ...]) -> tuple[object, ...] | None:
    """Python's own methods; None if a package that watches all lines has replaced one of them."""
    methods = tuple(getattr(kind, name) for name in names)
    are_pythons = all(method.__code__.co_filename in _FILES for method in methods)
    return methods if are_pythons else None


_LOGGERS: Final = _pythons(logging.Logger, _OF_LOGGERS)
_STREAMS: Final = {
    kind: _pythons(kind, _OF_HANDLERS)
    for kind in (logging.StreamHandler, logging.FileHandler, logging.handlers.WatchedFileHandler)
}
_methods_of_logger: Final = attrgetter(*_OF_LOGGERS)
_methods_of_handler: Final = attrgetter(*_OF_HANDLERS)


def only_stream(logger: logging.Logger) -> Stream | None:
    """The handler that writes the lines of a logger at INFO to a stream, if nothing else looks at them."""
    found: logging.Handler | None = None
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            if type(handler) is not logging.NullHandler:
                if found is not None:
                    return None
                found = handler
        current = current.parent if current.propagate else None
    only: Any = found
    kind = type(found)
    is_plain = (
        kind in _STREAMS
        # A file may be opened with its first line.
        and only.stream is not None
        and not logger.filters
        and (not only.filters or only.filters == [_written_first])
        and only.level <= logging.INFO
        # Once in a turn: it takes as long as all the rest.
        and (only in _turn.waiting or _is_pythons(type(logger), only))
    )
    return only if is_plain else None


def _is_pythons(logger: type[logging.Logger], handler: Stream) -> bool:
    """Whether nobody has replaced what a logger and a handler do with a record."""
    kind = type(handler)
    return (
        _methods_of_logger(logger) == _LOGGERS
        and _methods_of_handler(kind) == _STREAMS[kind]
        and handler.__dict__.keys().isdisjoint(_OF_HANDLERS)
    )


# -- those of a turn


class _Turn:
    """The lines of a thread that wait for the end of its event loop's turn."""

    def __init__(self) -> None:
        self.thread: int | None = None
        self.call_soon: Callable[[Callable[[], object]], object] | None = None
        self.waiting: dict[Stream, list[str]] = {}


_turn: Final = _Turn()


class _WrittenFirst(logging.Filter):
    """Has those that wait written before any other line of the same stream."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        _write_waiting()
        return True


_written_first: Final = _WrittenFirst()


def write_together(call_soon: Callable[[Callable[[], object]], object] | None) -> None:
    """Write the lines of a turn of this thread's event loop together, before any other line.

    So the lines that tasks were received are there before any of their code runs.

    Args:
        call_soon: Has the loop call something in its next turn; None to write each at once again.
    """
    _write_waiting()
    _turn.thread = None if call_soon is None else threading.get_ident()
    _turn.call_soon = call_soon


def write_line(handler: Stream, text: str) -> None:
    """Write a line for a handler that `only_stream` has found."""
    call_soon = _turn.call_soon
    if call_soon is None or _turn.thread != threading.get_ident():
        _write(handler, [text])
        return
    waiting = _turn.waiting
    with handler.lock or nullcontext():
        lines = waiting.get(handler)
        if lines is None:
            if not handler.filters:
                handler.addFilter(_written_first)
            call_soon(_write_waiting)
            waiting[handler] = [text]
            return
        lines.append(text)
        if len(lines) >= _MOST:
            _write(handler, waiting.pop(handler))


def _write_waiting() -> None:
    waiting = _turn.waiting
    while waiting:
        for handler in tuple(waiting):
            # Other threads write them before a line of their own.
            with handler.lock or nullcontext():
                _write(handler, waiting.pop(handler, []))


def _write(handler: Stream, lines: list[str]) -> None:
    if not lines:
        return
    end = handler.terminator
    try:
        with handler.lock or nullcontext():
            if type(handler) is logging.handlers.WatchedFileHandler:
                handler.reopenIfNeeded()
            stream: Any = handler.stream
            stream.write(end.join(lines) + end)
            handler.flush()
    except Exception:  # noqa: BLE001 (as Python's handlers do)
        handler.handleError(logging.makeLogRecord({"msg": "%s", "args": (lines[-1],)}))


atexit.register(_write_waiting)
# Its parent writes them.
os.register_at_fork(after_in_child=_turn.waiting.clear)

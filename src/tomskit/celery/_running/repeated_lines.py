"""A line that a logger writes again and again, its record a copy of the first one.

The two lines of each task are such. To find out anew which module, function, thread and process writes one takes
10 of its 25 us. Where nobody but a stream gets it, as in a worker that logs as Celery has set it up, 7 more are
saved: no record is made, only its text.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final

from tomskit.celery._running.strays import lineage
from tomskit.celery._running.stream_lines import MakeText, TextMaker, only_stream, write_line

__all__ = ("RecordMaker", "RepeatedLine")

_TASK_NAME: Final = "taskName"
"""Python 3.12 and later have it."""


class RecordMaker(ABC):
    """A factory of log records whose records may be copied."""

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """Make a record, as Python's logging calls it."""

    @abstractmethod
    def record_of(self, write: Callable[[], object]) -> logging.LogRecord | None:
        """Write a line; a copy of its record as it was made, or None if no copies are to be used."""

    @abstractmethod
    def name_task(self, attributes: dict[str, Any], task_id: str) -> None:
        """Note in a record's attributes which task it is about."""


class RepeatedLine:
    """A line at INFO of always the same text, from the same place, with other arguments each time.

    Filters, handlers and formatters get the same as from `Logger.info`, as the logger hands them the
    record.

    Args:
        logger: The logger.
        write: Has `Logger.info` write such a line, with the arguments that it is given.
    """

    __slots__ = (
        "_attributes",
        "_formatter",
        "_kind",
        "_logger",
        "_maker",
        "_process",
        "_text_of",
        "_thread",
        "_write",
    )

    def __init__(
        self, logger: logging.Logger, write: Callable[[Mapping[str, object]], object]
    ) -> None:
        self._logger = logger
        self._write = write
        self._maker: RecordMaker | None = None
        self._attributes: dict[str, Any] = {}
        self._kind: type[logging.LogRecord] = logging.LogRecord
        self._thread = 0
        self._process: object = None
        self._formatter: logging.Formatter | None = None
        self._text_of: MakeText | None = None

    def log(self, arguments: Mapping[str, object], task_id: str) -> None:
        """Write the line. A handler that fails costs the line, and not the task that it is about.

        Args:
            arguments: What the text names, also the record's ``data``, as in Celery's lines.
            task_id: The id of the task that the line is about.
        """
        try:
            self._log(arguments, task_id)
        except Exception:  # noqa: BLE001 (handlers and filters are the application's)
            if logging.raiseExceptions:
                # As logging does; not where it might be logged.
                traceback.print_exc(file=sys.__stderr__)

    def _log(self, arguments: Mapping[str, object], task_id: str) -> None:
        maker = self._maker
        if (
            maker is None
            or maker is not logging.getLogRecordFactory()
            or self._thread != threading.get_ident()
            or self._process is not lineage.here
        ):
            self._log_first(arguments)
            return
        logger = self._logger
        if not logger.isEnabledFor(logging.INFO):
            return
        now = time.time()
        handler = only_stream(logger)
        if handler is not None:
            if handler.formatter is not self._formatter:
                self._use(handler.formatter)
            text = None if self._text_of is None else self._text_of(now, arguments, task_id)
            if text is not None:
                write_line(handler, text)
                return
        attributes = self._attributes.copy()
        attributes["relativeCreated"] += (now - attributes["created"]) * 1000
        attributes["created"], attributes["msecs"] = now, float(int(now % 1 * 1000))
        attributes["args"] = attributes["data"] = arguments
        if _TASK_NAME in attributes:
            attributes[_TASK_NAME] = _name_of_asyncio_task()
        maker.name_task(attributes, task_id)
        record = self._kind.__new__(self._kind)
        record.__dict__ = attributes
        logger.handle(record)

    def _use(self, formatter: logging.Formatter | None) -> None:
        self._formatter, self._text_of = formatter, None
        if isinstance(formatter, TextMaker):
            self._text_of = formatter.texts_of(self._attributes)

    def _log_first(self, arguments: Mapping[str, object]) -> None:
        factory = logging.getLogRecordFactory()
        record = None
        if isinstance(factory, RecordMaker):
            record = factory.record_of(lambda: self._write(arguments))
        else:
            self._write(arguments)
        self._maker = self._formatter = self._text_of = None
        if isinstance(factory, RecordMaker) and record is not None:
            self._maker, self._kind, self._attributes = factory, type(record), record.__dict__
            self._thread, self._process = threading.get_ident(), lineage.here


def _name_of_asyncio_task() -> str | None:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else task.get_name()

"""The task id on every log record, and no control characters from messages in a worker's lines."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Final

from typing_extensions import override

from tomskit.celery._running.context import task_id_context

__all__ = ("TASK_LOG_FORMAT", "WORKER_LOG_FORMAT", "install_task_id", "note_format")

NO_TASK: Final = "-"
WORKER_LOG_FORMAT: Final = (
    "[%(asctime)s: %(levelname)s/%(processName)s] [task_id=%(task_id)s] %(message)s"
)
TASK_LOG_FORMAT: Final = (
    "[%(asctime)s: %(levelname)s/%(processName)s] [task_id=%(task_id)s] %(task_name)s: %(message)s"
)

_ABOUT_MESSAGES: Final = ("celery.app.trace", "celery.worker", "tomskit.celery")
"""How the names of the loggers begin that write what messages hold: ids, names, arguments, errors."""

_NAMED: Final = "%s[%s]"
"""How a task is named in their lines, by its name and its id."""

_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def escaped(text: str) -> str:
    """`text` in one line: a message must neither forge log lines nor control a terminal."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class TaskLogRecord(logging.LogRecord):
    """A record that knows the task it was made in.

    The id gets among the record's attributes when it is formatted, not when it is made: a record
    that has ``task_id`` from the start would turn ``logger.info(..., extra={"task_id": ...})``
    into a KeyError.
    """

    # A class attribute, so that records made by copying an older one's __dict__ have it too.
    _made_in = NO_TASK

    @override
    def getMessage(self) -> str:
        self.__dict__.setdefault("task_id", self._made_in)
        text, args = str(self.msg), self.args
        if not args or not self.name.startswith(_ABOUT_MESSAGES):
            return super().getMessage()
        if _shows_task_id and _id_in(text, args) is not None:
            if isinstance(args, tuple):
                place = _place_in(text)
                args = args[:place] + args[place + 1 :]
            text = text.replace("[%(id)s]", "").replace(_NAMED, "%s", 1)
        message = text % args
        # To search it whole takes a fifth of the time that it takes to escape each argument.
        return text % _escaped_all(args) if _CONTROL.search(message) else message

    def __getattr__(self, name: str) -> str:
        if name == "task_id":
            return self._made_in
        raise AttributeError(name)


def _escaped_all(args: tuple[object, ...] | Mapping[str, object]) -> object:
    if isinstance(args, tuple):
        return tuple(escaped(item) if isinstance(item, str) else item for item in args)
    return {name: escaped(item) if isinstance(item, str) else item for name, item in args.items()}


def _id_of(record: logging.LogRecord) -> str | None:
    """The id of the task that a line of Celery's is about, such as that a message was received."""
    args = record.args
    if args and record.name.startswith(_ABOUT_MESSAGES):
        return _id_in(str(record.msg), args)
    return None


def _id_in(text: str, args: tuple[object, ...] | Mapping[str, object]) -> str | None:
    found: object = None
    if isinstance(args, tuple):
        if _NAMED in text and (place := _place_in(text)) < len(args):
            found = args[place]
    elif "name" in args:
        found = args.get("id")
    return found if isinstance(found, str) else None


def _place_in(text: str) -> int:
    """Which of the arguments the id is, in a text with the name and the id of a task."""
    before, _, _ = text.partition(_NAMED)
    return before.replace("%%", "").count("%") + 1


_shows_task_id: bool = False


def note_format(format: str | None = None, **_: object) -> None:  # noqa: A002 (Celery's name)
    """Note whether the lines of this process show the task id; then messages need not have it too.

    Celery says so when it has set up the worker's logging.
    """
    global _shows_task_id  # noqa: PLW0603 (logging belongs to the process)
    _shows_task_id = "%(task_id)s" in (format or "")


def install_task_id() -> None:
    """Make every log record of every logger carry ``task_id``, however logging is configured.

    A factory that was installed before still makes the records.
    """
    previous = logging.getLogRecordFactory()
    if not isinstance(previous, _RecordFactory):
        logging.setLogRecordFactory(_RecordFactory(previous))


class _RecordFactory:
    def __init__(self, previous: Callable[..., logging.LogRecord]) -> None:
        self._previous = previous

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._previous(*args, **kwargs)
        task_id = escaped(_id_of(record) or task_id_context.get() or NO_TASK)
        if type(record) is logging.LogRecord:
            record.__class__ = TaskLogRecord
            record.__dict__["_made_in"] = task_id
        else:
            record.__dict__.setdefault("task_id", task_id)
        return record

"""The task id on every log record, and no control characters from messages in a worker's lines."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final

from celery.utils.log import ColorFormatter
from typing_extensions import override

from tomskit.celery._running.context import task_id_context
from tomskit.celery._running.long_errors import bounded, leave_out_links
from tomskit.celery._running.repeated_lines import RecordMaker
from tomskit.celery._running.stream_lines import MakeText, TextMaker
from tomskit.showing import name_of, shown

__all__ = (
    "TASK_LOG_FORMAT",
    "WORKER_LOG_FORMAT",
    "escape_tracebacks",
    "install_task_id",
    "note_format",
)

NO_TASK: Final = "-"
WORKER_LOG_FORMAT: Final = (
    "[%(asctime)s: %(levelname)s/%(processName)s] [task_id=%(task_id)s] %(message)s"
)
TASK_LOG_FORMAT: Final = (
    "[%(asctime)s: %(levelname)s/%(processName)s] [task_id=%(task_id)s] %(task_name)s: %(message)s"
)

_ABOUT_MESSAGES: Final = ("celery.app.trace", "celery.worker", "kombu.pidbox", "tomskit.celery")
"""How the names of the loggers begin that write what messages hold: ids, names, arguments, errors."""

_LOGGERS: Final = (
    *("", "celery", "celery.app", "celery.app.trace", "celery.task", "celery.worker"),
    *("kombu", "kombu.pidbox", "tomskit", "tomskit.celery"),
)
"""The loggers whose handlers write such lines, or those of tasks."""

_NAMED: Final = "%s[%s]"
"""How a task is named in their lines, by its name and its id."""

_BUT_NEWLINES: Final = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""What controls a terminal, ends a line, or changes the direction of what follows."""

_CONTROL: Final = re.compile(f"[\n{_BUT_NEWLINES}]")
_CONTROL_IN_LINES: Final = re.compile(f"[{_BUT_NEWLINES}]")

_FIELD: Final = re.compile(r"%(?:%|\((?P<name>[^)]*)\)[-#0 +]*[0-9]*(?:\.[0-9]+)?[a-zA-Z])")
"""A field of a format of lines."""

_PUT_IN: Final = ("asctime", "task_id", "message")
_DIFFERENT: Final = frozenset(
    ("args", "created", "data", "msecs", "relativeCreated", "taskName", "_made_in")
)


def escaped(text: str) -> str:
    """`text` in one line: a message must neither forge log lines nor control a terminal."""
    return _CONTROL.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


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
        if not self.args or not self.name.startswith(_ABOUT_MESSAGES):
            return super().getMessage()
        return _text_of(str(self.msg), self.args)

    def __getattr__(self, name: str) -> str:
        if name == "task_id":
            return self._made_in
        raise AttributeError(name)


def _text_of(text: str, args: tuple[object, ...] | Mapping[str, object]) -> str:
    """The message of a line that may show what is in messages of tasks."""
    if _shows_task_id and _id_in(text, args) is not None:
        if isinstance(args, tuple):
            place = _place_in(text)
            args = args[:place] + args[place + 1 :]
        text = _without_id(text)
    return _printable(text, args)


def _printable(text: str, args: tuple[object, ...] | Mapping[str, object]) -> str:
    message = bounded(text % args)
    # To search it whole takes a fifth of the time that it takes to escape each argument.
    if message.isprintable() or not _CONTROL.search(message):
        return message
    return bounded(text % _escaped_all(args))


@lru_cache(maxsize=100)
def _without_id(text: str) -> str:
    return text.replace("[%(id)s]", "").replace(_NAMED, "%s", 1)


def _escaped_all(args: tuple[object, ...] | Mapping[str, object]) -> object:
    if isinstance(args, tuple):
        return tuple(_escaped_if_text(item) for item in args)
    return {name: _escaped_if_text(item) for name, item in args.items()}


def _escaped_if_text(item: object) -> object:
    return escaped(bounded(item)) if isinstance(item, str) else item


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


def note_format(
    format: str | None = None,  # noqa: A002 (Celery's name)
    logger: logging.Logger | None = None,
    **_: object,
) -> None:
    """Prepare for the lines of this process, when Celery has set up the worker's logging.

    If they show the task id, messages need not have it too.
    """
    global _shows_task_id  # noqa: PLW0603 (logging belongs to the process)
    _shows_task_id = "%(task_id)s" in (format or "")
    for handler in [] if logger is None else logger.handlers:
        formatter = handler.formatter
        if type(formatter) is ColorFormatter:
            # As it is, and not a new one: its options are not public.
            formatter.__class__ = _Formatter
        if isinstance(formatter, _Formatter):
            formatter.note_line(format)


def escape_tracebacks() -> None:
    """Escape the tracebacks that an application's own formatters write, as those of a worker's are.

    That is where CELERY_WORKER_HIJACK_ROOT_LOGGER is off, or a receiver of ``setup_logging`` makes the handlers.
    A formatter that writes tracebacks by a method of its own, as JSON or in colours, stays as it is.
    """
    plain = logging.Formatter.formatException
    for handler in [one for name in _LOGGERS for one in logging.getLogger(name).handlers]:
        formatter = handler.formatter
        if formatter is None and type(handler).__module__ == logging.__name__:
            # As logging's own for a handler without one, which all of these share.
            handler.setFormatter(formatter := logging.Formatter())
        if formatter is not None and getattr(formatter.formatException, "__func__", None) is plain:
            vars(formatter)["formatException"] = partial(_traceback_of, formatter.formatException)


def _traceback_of(write: Callable[[Any], str], info: Any) -> str:
    # It is the application's own error, so that all is put back.
    put_back = leave_out_links(info[1])
    try:
        text = write(info)
    except Exception as exc:  # noqa: BLE001 (a method of its class, or of one before it)
        # Logging would try to show this one, with the other as its context.
        text = f"{name_of(info[1])}, of which no traceback can be made: {shown(exc)}"
    finally:
        if put_back is not None:
            put_back()
    # The error's text may come from a message.
    return _CONTROL_IN_LINES.sub(_shown, bounded(text))


class _Formatter(ColorFormatter, TextMaker):
    """Celery's formatter; makes the text of a second once, which takes 2 us of a line's 20."""

    _known: tuple[int | None, str] = None, ""
    """A second and its text, as one object: a thread may format while the event loop writes lines."""
    _line: str | None = None
    """What a line is made with, as far as that is known."""

    @override
    def formatException(self, ei: Any) -> str:
        return _traceback_of(super().formatException, ei)

    @override
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        if datefmt is not None:
            return super().formatTime(record, datefmt)
        return self._time_of(record.created, record.msecs)

    def _time_of(self, created: float, msecs: float) -> str:
        second = int(created)
        known, text = self._known
        if second != known:
            text = time.strftime(self.default_time_format, self.converter(created))
            self._known = second, text
        milliseconds = self.default_msec_format
        return milliseconds % (text, msecs) if milliseconds else text

    @override
    def texts_of(self, attributes: Mapping[str, Any]) -> MakeText | None:
        line = self._line
        template = None if line is None else _template_of(line, attributes)
        if template is None:
            return None
        text, level = str(attributes["msg"]), attributes["levelname"]
        shows_id = _shows_task_id
        if shows_id and _id_in(text, attributes["args"]) is not None:
            text = _without_id(text)
        last, asctime = (-1, -1), ""

        def text_of(created: float, arguments: Mapping[str, object], task_id: str) -> str | None:
            # Lines come many in a millisecond.
            nonlocal last, asctime
            if (
                self._line is not line
                or self.datefmt is not None
                or level in self.colors
                or _shows_task_id is not shows_id
            ):
                return None
            now = int(created), int(created % 1 * 1000)
            if now != last:
                last, asctime = now, self._time_of(created, now[1])
            return template % {
                "asctime": asctime,
                "task_id": task_id if task_id.isprintable() else escaped(task_id),
                "message": _printable(text, arguments),
            }

        return text_of

    def note_line(self, line: str | None) -> None:
        """Note what lines are made with, if that is what makes them."""
        self._line = line
        record = TaskLogRecord("a", logging.INFO, "b", 1, "c", (), None, "d")
        try:
            text_of = self.texts_of(record.__dict__)
            if text_of is None or text_of(record.created, {}, NO_TASK) != self.format(record):
                self._line = None
        except Exception:  # noqa: BLE001 (whatever a format may ask for that this record does not have)
            self._line = None


def _template_of(line: str, attributes: Mapping[str, Any]) -> str | None:
    """What makes a line of what differs from one to the next; None if that is anything else, too."""
    if not _DIFFERENT.isdisjoint(found["name"] for found in _FIELD.finditer(line)):
        return None

    def known(found: re.Match[str]) -> str:
        if found["name"] is None or found["name"] in _PUT_IN:
            return found[0]
        return (found[0] % attributes).replace("%", "%%")

    return _FIELD.sub(known, line)


def install_task_id() -> None:
    """Make every log record of every logger carry ``task_id``, however logging is configured.

    A factory that was installed before still makes the records.
    """
    previous = logging.getLogRecordFactory()
    if not isinstance(previous, _RecordFactory):
        logging.setLogRecordFactory(_RecordFactory(previous))


class _Keeping(threading.local):
    """The records that a thread has made, where somebody asks for one."""

    kept: list[logging.LogRecord] | None = None


def _copied(record: logging.LogRecord) -> logging.LogRecord:
    kind = type(record)
    copy = kind.__new__(kind)
    copy.__dict__.update(record.__dict__)
    return copy


class _RecordFactory(RecordMaker):
    def __init__(self, previous: Callable[..., logging.LogRecord]) -> None:
        self._previous = previous
        self._keeping = _Keeping()

    @override
    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._previous(*args, **kwargs)
        task_id = escaped(_id_of(record) or task_id_context.get() or NO_TASK)
        if type(record) is logging.LogRecord:
            record.__class__ = TaskLogRecord
            self.name_task(record.__dict__, task_id)
        else:
            record.__dict__.setdefault("task_id", task_id)
        kept = self._keeping.kept
        if kept is not None:
            # As it is now: who handles it may change it.
            kept.append(_copied(record))
        return record

    @override
    def record_of(self, write: Callable[[], object]) -> logging.LogRecord | None:
        kept: list[logging.LogRecord] = []
        if self._previous is not logging.LogRecord:
            # Another package's may find out something else for each record.
            write()
            return None
        self._keeping.kept = kept
        try:
            write()
        finally:
            self._keeping.kept = None
        return kept[0] if kept else None

    @override
    def name_task(self, attributes: dict[str, Any], task_id: str) -> None:
        attributes["_made_in"] = task_id if task_id.isprintable() else escaped(task_id)

"""Lines that only a stream gets: the same text, and those of a turn in one write."""

import io
import logging
import logging.handlers
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from celery.utils.log import ColorFormatter
from typing_extensions import override

from tests.support.contracts import untyped
from tomskit.celery import AsyncCelery
from tomskit.celery._running.repeated_lines import RepeatedLine
from tomskit.celery._running.stream_lines import write_together
from tomskit.celery._worker.logging import WORKER_LOG_FORMAT, note_format

TEXT: Final = "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s"
FORMATS: Final = (
    WORKER_LOG_FORMAT,
    "%(message)s",
    "%(levelname)-8s %(process)d %(threadName)s %(name)s %(task_id)s %(message)s",
    "%(asctime)s.%(msecs)03d %(data)s %(message)s",
    "%(task_id)-8s|%(levelname)6s%%%(process)010d %(asctime).10s%(message)s",
)
_TIMES: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}(\.\d{3})?")
SHOWN: Final = (
    "None",
    "'é☂'",
    "'a\\n'",
    "a\nforged",
    "\x1b[31m",
    "'%s'",
    "{'a': 1}",
    "\u2028",
    "\t",
)


class Stream(io.StringIO):
    """Counts what is written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    @override
    def write(self, text: str, /) -> int:
        self.writes += 1
        return super().write(text)


class Lines:
    """A logger whose lines go to a stream, in Celery's format for workers."""

    def __init__(self, text_format: str, handler: logging.StreamHandler[Any]) -> None:
        # Below the one whose lines show what is in messages.
        self.logger = logging.getLogger("celery.app.trace.lines")
        self.handler = handler
        handler.setFormatter(ColorFormatter(text_format, use_color=False))
        self.logger.handlers = [handler]
        self.logger.propagate = False
        self.logger.setLevel(logging.INFO)
        note_format(text_format, logger=self.logger)
        self._line = RepeatedLine(self.logger, lambda context: self.write(dict(context)))

    def begin(self) -> None:
        """Log the first line, whose record is the one that the others are like."""
        # Pytest adds a handler for the time of a test.
        self.logger.handlers = [self.handler]
        self.log("first")

    def write(self, context: dict[str, object]) -> None:
        self.logger.info(TEXT, context, extra={"data": context})

    def log(self, task_id: str, shown: str = "None") -> None:
        context = {"id": task_id, "name": "a.b", "runtime": 0.25, "return_value": shown}
        self._line.log(context, task_id)

    @property
    def text(self) -> str:
        return untyped(self.handler).stream.getvalue()  # type: ignore[no-any-return]


@contextmanager
def lines_of(
    text_format: str = "%(task_id)s|%(message)s",
    handler: logging.StreamHandler[Any] | None = None,
) -> Generator[Lines]:
    lines = Lines(text_format, handler or logging.StreamHandler(Stream()))
    try:
        yield lines
    finally:
        write_together(None)
        lines.logger.handlers = []
        lines.logger.filters = []
        note_format(logger=lines.logger)


@pytest.fixture
def lines(app: AsyncCelery) -> Iterator[Lines]:
    with lines_of() as lines:
        yield lines


class Turn:
    """A turn of an event loop, which ends when it is told to."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []
        write_together(self._calls.append)

    def end(self) -> None:
        while self._calls:
            self._calls.pop()()


@pytest.mark.parametrize("text_format", FORMATS)
def test_text_is_that_of_celerys_formatter(app: AsyncCelery, text_format: str) -> None:
    texts: list[str] = []
    others: list[list[logging.Handler]] = [[], [logging.StreamHandler(Stream())]]
    for another in others:
        with lines_of(text_format) as lines:
            # With two handlers each gets a record.
            lines.logger.handlers += another
            for number, shown in enumerate(SHOWN):
                lines.log(f"{number}", shown)
                lines.log(f"{number}\n[forged]", shown)
            texts.append(_TIMES.sub("<time>", lines.text))

    assert texts[0] == texts[1]
    assert len(texts[0].split("\n")) == 2 * len(SHOWN) + 1


def test_a_line_has_the_time_at_which_it_was_written(app: AsyncCelery) -> None:
    with lines_of("%(created)f %(message)s") as lines:
        began = time.time()
        for number in range(3):
            lines.log(str(number))
        ended = time.time()

    times = [float(line.split()[0]) for line in lines.text.splitlines()]
    assert began - 1e-3 <= times[0] <= times[1] <= times[2] <= ended + 1e-3


def test_lines_of_a_turn_are_written_together(lines: Lines) -> None:
    lines.begin()
    turn = Turn()
    writes = stream_of(lines).writes
    for number in range(5):
        lines.log(str(number))
    before = lines.text
    turn.end()

    assert before == "first|Task a.b succeeded in 0.25s: None\n"
    assert ids_of(lines) == ["first", "0", "1", "2", "3", "4"]
    assert stream_of(lines).writes == writes + 1

    lines.log("5")
    turn.end()
    assert ids_of(lines)[-1] == "5"


def test_any_other_line_comes_after_those_that_wait(lines: Lines) -> None:
    lines.begin()
    turn = Turn()
    lines.log("1")
    lines.logger.warning("of a task")
    thread = threading.Thread(target=lines.logger.error, args=("of a thread",))
    lines.log("2")
    thread.start()
    thread.join()
    lines.log("3")
    turn.end()

    shown = [line.partition("|") for line in lines.text.splitlines()]
    assert [first if first != "-" else last for first, _, last in shown] == [
        *("first", "1", "of a task", "2", "of a thread", "3"),
    ]


def test_no_more_than_a_hundred_wait(lines: Lines) -> None:
    lines.begin()
    turn = Turn()
    for number in range(250):
        lines.log(str(number))
    assert len(ids_of(lines)) == 201
    turn.end()

    assert ids_of(lines) == ["first", *map(str, range(250))]


def test_lines_of_another_thread_are_written_at_once(lines: Lines) -> None:
    lines.begin()
    turn = Turn()

    def run() -> None:
        for name in "ab":
            lines.log(name)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert ids_of(lines) == ["first", "a", "b"]
    turn.end()


def test_those_that_wait_are_written_when_turns_end(lines: Lines) -> None:
    lines.begin()
    Turn()
    lines.log("last")
    write_together(None)
    lines.log("at once")

    assert ids_of(lines) == ["first", "last", "at once"]


def test_a_forked_process_leaves_them_to_its_parent(app: AsyncCelery, tmp_path: Path) -> None:
    with lines_of(handler=logging.FileHandler(tmp_path / "log")) as lines:
        lines.begin()
        turn = Turn()
        lines.log("1")
        child = os.fork()
        if child == 0:
            turn.end()
            write_together(None)
            os._exit(0)
        os.waitpid(child, 0)
        turn.end()
        lines.handler.close()

    text = (tmp_path / "log").read_text(encoding="utf-8")
    assert [line.partition("|")[0] for line in text.splitlines()] == ["first", "1"]


def test_a_file_that_was_moved_away_is_made_anew(app: AsyncCelery, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with lines_of(handler=logging.handlers.WatchedFileHandler(path)) as lines:
        for name in ("first", "1"):
            lines.log(name)
        path.rename(tmp_path / "old")
        lines.log("2")
        lines.handler.close()

    assert [
        [line.partition("|")[0] for line in one.read_text(encoding="utf-8").splitlines()]
        for one in (tmp_path / "old", path)
    ] == [["first", "1"], ["2"]]


def test_a_stream_that_fails_is_reported_as_python_does(
    lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    lines.begin()
    turn = Turn()
    lines.log("1")
    stream_of(lines).close()
    turn.end()
    write_together(None)
    lines.log("2")

    shown = capsys.readouterr().err
    assert shown.count("--- Logging error ---") == 2
    assert "I/O operation on closed file" in shown


class _Own(logging.StreamHandler[Any]):
    """A handler of an application."""


def _filter_logger(lines: Lines, seen: list[str]) -> None:
    lines.logger.filters = [keeping(seen)]


def _filter_handler(lines: Lines, seen: list[str]) -> None:
    lines.handler.filters = [keeping(seen)]


def _replace_emit(lines: Lines, seen: list[str]) -> None:
    emit = lines.handler.emit

    def noting(record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        emit(record)

    untyped(lines.handler).emit = noting


def _add_handler(lines: Lines, seen: list[str]) -> None:
    handler = logging.StreamHandler(Stream())
    handler.addFilter(keeping(seen))
    lines.logger.addHandler(handler)


def _propagate(lines: Lines, seen: list[str]) -> None:
    lines.logger.propagate = True
    handler = logging.StreamHandler(Stream())
    handler.addFilter(keeping(seen))
    logging.getLogger("celery.app.trace").handlers = [handler]


def _own_handler(lines: Lines, seen: list[str]) -> None:
    handler = _Own(Stream())
    handler.addFilter(keeping(seen))
    lines.logger.handlers = [handler]


def _own_formatter(lines: Lines, seen: list[str]) -> None:
    class Formatter(logging.Formatter):
        @override
        def format(self, record: logging.LogRecord) -> str:
            seen.append(record.getMessage())
            return super().format(record)

    lines.handler.setFormatter(Formatter())


def keeping(seen: list[str]) -> logging.Filter:
    class Keeping(logging.Filter):
        @override
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append(record.getMessage())
            return True

    return Keeping()


@pytest.mark.parametrize(
    "watch",
    [
        *(_filter_logger, _filter_handler, _add_handler),
        *(_propagate, _own_handler, _own_formatter),
    ],
)
def test_whoever_looks_at_lines_is_shown_them(
    lines: Lines, watch: Callable[[Lines, list[str]], None]
) -> None:
    """From the next line on, also where nobody has looked before."""
    lines.begin()
    turn = Turn()
    lines.log("1")
    seen: list[str] = []
    try:
        watch(lines, seen)
        for name in ("2", "3"):
            lines.log(name, f"'{name}'")
        turn.end()
    finally:
        logging.getLogger("celery.app.trace").handlers = []

    assert [line[-3:] for line in seen] == ["'2'", "'3'"]


def test_a_method_that_is_replaced_in_a_turn_is_called_from_the_next_one_on(lines: Lines) -> None:
    """Only once in a turn is it looked for: that takes as long as all the rest."""
    lines.begin()
    turn = Turn()
    lines.log("1")
    seen: list[str] = []
    _replace_emit(lines, seen)
    turn.end()
    for name in ("2", "3"):
        lines.log(name, f"'{name}'")
    turn.end()

    assert [line[-3:] for line in seen] == ["'2'", "'3'"]


def test_a_package_that_watches_all_lines_is_shown_them(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines.begin()
    seen: list[logging.LogRecord] = []
    original = logging.Logger.callHandlers

    def noting(logger: logging.Logger, record: logging.LogRecord) -> None:
        seen.append(record)
        original(logger, record)

    lines.log("1")
    monkeypatch.setattr(logging.Logger, "callHandlers", noting)
    lines.log("2")

    assert [record.getMessage() for record in seen] == ["Task a.b succeeded in 0.25s: None"]


def test_levels_are_asked_for_each_line(lines: Lines) -> None:
    lines.begin()
    lines.handler.setLevel(logging.WARNING)
    lines.log("1")
    lines.handler.setLevel(logging.INFO)
    lines.logger.setLevel(logging.WARNING)
    lines.log("2")
    lines.logger.setLevel(logging.INFO)
    lines.logger.disabled = True
    lines.log("3")
    lines.logger.disabled = False
    lines.log("4")

    assert ids_of(lines) == ["first", "4"]


def stream_of(lines: Lines) -> Stream:
    return untyped(lines.handler).stream  # type: ignore[no-any-return]


def ids_of(lines: Lines) -> list[str]:
    return [line.partition("|")[0] for line in lines.text.splitlines()]

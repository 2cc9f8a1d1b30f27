"""Lines that are written again and again: a copy of a record is one like it."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from celery.app import trace
from celery.worker import strategy
from typing_extensions import override

from tests.support.contracts import untyped
from tomskit.celery import AsyncCelery
from tomskit.celery._running.repeated_lines import RepeatedLine

OF_TIME: Final = {"created", "msecs", "relativeCreated"}
CONTEXT: Final = {"id": "7", "name": "a.b", "return_value": "None", "runtime": 0.1, "eta": None}


class Kept(logging.Handler):
    """Keeps what a record has when a handler gets it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, object]] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.found.append({**record.__dict__, "type": type(record)})
        record.getMessage()
        record.__dict__["added"] = "by a handler"


Line = tuple[logging.Logger, Callable[[Mapping[str, object]], object]]


def write_received(context: Mapping[str, object]) -> None:
    untyped(strategy).logger.info(untyped(trace).LOG_RECEIVED, context, extra={"data": context})


def write_success(context: Mapping[str, object]) -> None:
    untyped(trace).info(untyped(trace).LOG_SUCCESS, context)


LINES: Final[dict[str, Line]] = {
    "received": (untyped(strategy).logger, write_received),
    "succeeded": (untyped(trace).logger, write_success),
}


@pytest.fixture(params=LINES)
def line(request: pytest.FixtureRequest) -> Line:
    return LINES[request.param]


@pytest.fixture
def kept(app: AsyncCelery, line: Line) -> Iterator[Kept]:
    logger, _ = line
    handler, level = Kept(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_a_copy_is_what_the_logger_makes(kept: Kept, line: Line) -> None:
    logger, write = line
    repeated = RepeatedLine(logger, write)

    for number in range(3):
        context = {**CONTEXT, "id": str(number)}
        repeated.log(context, str(number))
        write(context)

    assert len(kept.found) == 6
    for mine, theirs in zip(kept.found[::2], kept.found[1::2], strict=True):
        for name in OF_TIME:
            ours, celerys = mine.pop(name), theirs.pop(name)
            assert type(ours) is type(celerys)
            assert isinstance(ours, float)
            assert isinstance(celerys, float)
            if name != "msecs":
                assert ours <= celerys + 1e-3
        assert mine == theirs


def test_a_copy_has_the_time_of_its_line(
    kept: Kept,
    line: Line,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repeated = RepeatedLine(*line)
    repeated.log(CONTEXT, "7")
    began: Any = kept.found[0]
    monkeypatch.setattr("time.time", lambda: began["created"] + 3.25)

    repeated.log(CONTEXT, "7")

    later: Any = kept.found[1]
    assert later["created"] == pytest.approx(began["created"] + 3.25)
    assert later["relativeCreated"] == pytest.approx(began["relativeCreated"] + 3250)
    assert later["msecs"] == float(int(later["created"] % 1 * 1000))


def test_another_thread_gets_a_record_of_its_own(kept: Kept, line: Line) -> None:
    repeated = RepeatedLine(*line)
    repeated.log(CONTEXT, "7")
    thread = threading.Thread(target=repeated.log, args=(CONTEXT, "7"), name="another")
    thread.start()
    thread.join()
    repeated.log(CONTEXT, "7")

    threads = [found["threadName"] for found in kept.found]
    assert threads == ["MainThread", "another", "MainThread"]
    assert kept.found[1]["thread"] == thread.ident


def test_a_factory_of_another_package_makes_each_record(kept: Kept, line: Line) -> None:
    repeated = RepeatedLine(*line)
    repeated.log(CONTEXT, "7")
    original, numbers = logging.getLogRecordFactory(), iter(range(9))

    def numbered(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = original(*args, **kwargs)
        record.__dict__["number"] = next(numbers)
        return record

    logging.setLogRecordFactory(numbered)
    try:
        for _ in range(3):
            repeated.log(CONTEXT, "7")
    finally:
        logging.setLogRecordFactory(original)
    repeated.log(CONTEXT, "7")

    assert [found.get("number") for found in kept.found] == [None, 0, 1, 2, None]


def test_filters_and_levels_are_asked_each_time(kept: Kept, line: Line) -> None:
    logger, _ = line
    repeated = RepeatedLine(*line)
    logger.addFilter(no_sevens)
    try:
        for name in ("7", "8", "7", "9"):
            repeated.log({**CONTEXT, "id": name}, name)
    finally:
        logger.removeFilter(no_sevens)
    logger.setLevel(logging.WARNING)
    repeated.log(CONTEXT, "7")

    assert [found["args"] for found in kept.found] == [
        {**CONTEXT, "id": "8"},
        {**CONTEXT, "id": "9"},
    ]


def no_sevens(record: logging.LogRecord) -> bool:
    args: Any = record.args
    return bool(args["id"] != "7")


def test_the_task_is_named_by_each_line(kept: Kept, tmp_path: Path) -> None:
    logger = logging.getLogger("celery.app.trace")
    text = untyped(trace).LOG_SUCCESS
    repeated = RepeatedLine(logger, lambda context: logger.info(text, context))
    handler = logging.FileHandler(tmp_path / "lines")
    handler.setFormatter(logging.Formatter("%(task_id)s|%(message)s"))
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        for name in ("1", "2", "3\n[forged]"):
            repeated.log({**CONTEXT, "id": name}, name)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()

    shown = (tmp_path / "lines").read_text(encoding="utf-8").splitlines()
    assert [found.partition("|")[0] for found in shown] == ["1", "2", "3\\n[forged]"]

"""Chains of thousands of errors, and texts without end."""

import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from celery.utils.log import ColorFormatter

from tomskit.celery import AsyncCelery, async_shared_task
from tomskit.celery._running.long_errors import (
    LONGEST_TEXT,
    bounded,
    leave_out_links,
)
from tomskit.celery._worker.logging import note_format


def chain(length: int, *, by_cause: bool) -> ValueError:
    """An error to which others have led, each raised from the one before or while that was handled."""
    error: ValueError | None = None
    for number in range(length):
        try:
            _raise_after(error, number, by_cause=by_cause)
        except ValueError as exc:
            error = exc
    assert error is not None
    return error


def _raise_after(before: ValueError | None, number: int, *, by_cause: bool) -> None:
    if before is None:
        raise ValueError(number)
    try:
        raise before
    except ValueError as exc:
        if by_cause:
            raise ValueError(number) from exc
        raise ValueError(number)  # noqa: B904 (it is the context)


def written(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("by_cause", [False, True])
def test_a_long_chain_loses_its_middle(by_cause: bool) -> None:
    error = chain(5000, by_cause=by_cause)
    before = written(error)

    put_back = leave_out_links(error)

    text = written(error)
    assert text.count("ValueError: ") == 100
    for number in (0, 49, 4950, 4999):
        assert f"ValueError: {number}\n" in text
    assert "ValueError: 4950\n[4,900 errors left out, between this one and the one above]\n" in text
    assert put_back is not None
    put_back()
    assert written(error) == before


@pytest.mark.parametrize("by_cause", [False, True])
def test_other_chains_stay_as_they_are(by_cause: bool) -> None:
    error = chain(100, by_cause=by_cause)
    before = written(error)

    assert leave_out_links(error) is None

    assert written(error) == before
    assert leave_out_links(None) is None


def test_a_chain_that_is_a_circle_stays_as_it_is() -> None:
    first, second = ValueError(1), ValueError(2)
    first.__context__, second.__context__ = second, first
    before = written(first)

    leave_out_links(first)

    assert written(first) == before


@pytest.mark.parametrize("is_async", [True, False])
def test_a_task_that_fails_so_stores_no_more(is_async: bool) -> None:
    app = AsyncCelery("long", broker="memory://", task_always_eager=True)

    async def fail() -> None:
        raise RuntimeError("last") from chain(5000, by_cause=False)

    def fail_plainly() -> None:
        raise RuntimeError("last") from chain(5000, by_cause=False)

    decorate: Any = async_shared_task if is_async else app.task
    body: Callable[..., object] = fail if is_async else fail_plainly
    result: Any = decorate(name="long.fail")(body).apply()

    assert result.traceback.count("ValueError: ") == 99
    assert "[4,901 errors left out" in result.traceback
    assert result.traceback.endswith("RuntimeError: last\n")


@pytest.fixture
def formatter() -> logging.Formatter:
    """As a worker's handlers have it."""
    handler = logging.StreamHandler()
    handler.setFormatter(ColorFormatter("%(message)s", use_color=False))
    logger = logging.getLogger("of.a.worker")
    logger.handlers = [handler]
    note_format(logger=logger)
    assert handler.formatter is not None
    return handler.formatter


def record_of(logger: str, error: Exception) -> logging.LogRecord:
    AsyncCelery("long")
    info = type(error), error, error.__traceback__
    return logging.getLogger(logger).makeRecord(
        logger, logging.ERROR, "file.py", 1, "failed: %s", (str(error),), info
    )


def test_a_logged_traceback_is_no_longer_either(formatter: logging.Formatter) -> None:
    error = chain(5000, by_cause=True)

    text = formatter.format(record_of("application", error))

    assert text.count("ValueError: ") == 100
    assert "[4,900 errors left out" in text
    # It is the application's own.
    assert written(error).count("ValueError: ") == 5000


@pytest.mark.parametrize("character", ["x", "\n", "\x1b"])
def test_a_line_without_end_is_cut(formatter: logging.Formatter, character: str) -> None:
    error = ValueError(character * 1_000_000 + "end")

    text = formatter.format(record_of("celery.app.trace", error))

    # A control character takes four.
    assert len(text) < 10 * LONGEST_TEXT
    assert text.count("characters left out]") == 2
    assert text.endswith("end") is True


def test_a_text_that_is_not_too_long_stays_as_it_is() -> None:
    text = "x" * LONGEST_TEXT

    assert bounded(text) == text
    assert bounded(text + "xx").count("x") == LONGEST_TEXT
    assert " [2 characters left out] " in bounded(text + "xx")

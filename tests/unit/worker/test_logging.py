"""task_id on log records."""

import logging
import threading

import pytest
from celery.utils.log import ColorFormatter
from typing_extensions import override

from tomskit.celery import AsyncCelery, AsyncRuntime, async_shared_task
from tomskit.celery._running.context import task_id_context
from tomskit.celery._worker.logging import escape_tracebacks, note_format

FORMATS = [
    logging.Formatter("%(task_id)s|%(message)s"),
    logging.Formatter("{task_id}|{message}", style="{"),
    logging.Formatter("$task_id|$message", style="$"),
]


def own(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """The record of the test: kombu says things of its own about an app without a broker."""
    return next(record for record in caplog.records if record.name in {"somewhere", "x"})


@async_shared_task
async def write(words: str) -> None:
    logging.getLogger("somewhere").warning(words)


def test_lines_of_two_threads_have_their_own_times() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(formatter := ColorFormatter("%(asctime)s"))
    logger = logging.getLogger("lines-of-two-threads")
    logger.addHandler(handler)
    note_format("%(asctime)s", logger)
    logger.removeHandler(handler)
    plain = logging.Formatter("%(asctime)s")
    first, second = (logging.makeLogRecord({"created": created}) for created in (100.0, 200.0))

    class Interrupted(str):
        """The milliseconds, before which another thread formats a line."""

        __slots__ = ()

        def __bool__(self) -> bool:
            formatter.default_msec_format = "%s,%03d"
            thread = threading.Thread(target=formatter.format, args=(second,))
            thread.start()
            thread.join()
            return True

    formatter.default_msec_format = Interrupted("%s,%03d")

    assert formatter.format(first) == plain.format(first)


@pytest.mark.parametrize("formatter", FORMATS)
def test_format_strings_of_all_styles_know_it(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture, formatter: logging.Formatter
) -> None:
    result = write.delay("hello")
    logging.getLogger("elsewhere").warning("outside")

    # kombu says things of its own about an app without a broker.
    inside, outside = (r for r in caplog.records if r.name in {"somewhere", "elsewhere"})
    assert formatter.format(inside) == f"{result.id}|hello"
    assert formatter.format(outside) == "-|outside"


def test_record_has_it_as_an_attribute(app: AsyncCelery, caplog: pytest.LogCaptureFixture) -> None:
    result = write.delay("hello")

    assert getattr(own(caplog), "task_id") == result.id  # noqa: B009 (added at run time)
    assert not hasattr(own(caplog), "task_name_or_so")


def test_extra_may_set_it(app: AsyncCelery, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("x").warning("hello", extra={"task_id": "mine"})

    assert FORMATS[0].format(own(caplog)) == "mine|hello"


def test_factory_that_was_there_before_goes_on_working(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Record(logging.LogRecord):
        pass

    original = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Record)
    try:
        AsyncCelery("second")
        AsyncCelery("third")
        logging.getLogger("x").warning("hello")
    finally:
        logging.setLogRecordFactory(original)

    assert type(own(caplog)) is Record
    assert FORMATS[0].format(own(caplog)) == "-|hello"


def test_copied_record_keeps_it(app: AsyncCelery, caplog: pytest.LogCaptureFixture) -> None:
    result = write.delay("hello")

    copy = logging.makeLogRecord(own(caplog).__dict__)

    assert FORMATS[0].format(copy) == f"{result.id}|hello"


def test_context_variable_has_it_while_a_task_runs(app: AsyncCelery) -> None:
    @async_shared_task
    async def read() -> str | None:
        return app.task_id_context.get()

    result = read.delay()

    assert result.get() == result.id
    assert task_id_context.get() is None
    assert app.task_id_context is task_id_context


def test_worker_formats_show_it_unless_configured(app: AsyncCelery) -> None:
    assert "[task_id=%(task_id)s]" in app.conf.worker_log_format
    assert "[task_id=%(task_id)s]" in app.conf.worker_task_log_format
    mine = AsyncCelery("x", worker_log_format="%(message)s")
    assert mine.conf.worker_log_format == "%(message)s"


def test_outside_of_a_task_a_run_has_none(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        logging.getLogger("x").warning("hello")

    AsyncRuntime.run(work())

    assert FORMATS[0].format(own(caplog)) == "-|hello"


FORGED = "1\n[2026-01-01] \x1b[31mforged\x9b line\u2028\u202e"
SHOWN = "1\\n[2026-01-01] \\x1b[31mforged\\x9b line\\u2028\\u202e"


@pytest.mark.parametrize("logger", ["celery.app.trace", "celery.worker.strategy", "kombu.pidbox"])
def test_what_a_message_holds_forges_no_lines_of_a_worker(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture, logger: str
) -> None:
    caplog.set_level(logging.INFO, logger)

    logging.getLogger(logger).info("Task %(name)s[%(id)s] received", {"name": "a", "id": FORGED})
    logging.getLogger(logger).info("two\nlines of %s and %d", FORGED, 2)

    texts = [record.getMessage() for record in caplog.records if record.name == logger]
    assert texts == [f"Task a[{SHOWN}] received", f"two\nlines of {SHOWN} and 2"]


LINES: dict[str, tuple[str, tuple[object, ...], str]] = {
    "revoked": ("Discarding revoked task: %s[%s]", ("a.b", "7"), "Discarding revoked task: a.b"),
    "limit": ("Soft (%ss) exceeded for %s[%s]", (0.5, "a", "7"), "Soft (0.5s) exceeded for a"),
    "more": ("100%% of %s[%s] retry: %r", ("a", "7", "x"), "100% of a retry: 'x'"),
    "forged": ("Failed: %s[%s]", ("a\nb", "7"), "Failed: a\\nb"),
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_line_about_a_task_has_its_id(
    app: AsyncCelery,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    line: tuple[str, tuple[object, ...], str],
) -> None:
    text, args, shown = line
    monkeypatch.setattr("tomskit.celery._worker.logging._shows_task_id", True)

    logging.getLogger("celery.worker.request").warning(text, *args)

    [record] = caplog.records
    assert FORMATS[0].format(record) == f"7|{shown}"


@pytest.mark.parametrize(
    ("text", "args"), [("%s[%s]", ("a", None)), ("no %s", ("a",)), ("%s", ("%s[%s]",))]
)
def test_line_about_no_task_has_none(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture, text: str, args: tuple[object, ...]
) -> None:
    logging.getLogger("celery.worker.request").warning(text, *args)

    [record] = caplog.records
    assert FORMATS[0].format(record) == f"-|{text % args}"


def test_a_task_id_forges_no_line(app: AsyncCelery, caplog: pytest.LogCaptureFixture) -> None:
    token = task_id_context.set(FORGED)
    try:
        logging.getLogger("somewhere").warning("hello")
    finally:
        task_id_context.reset(token)

    assert FORMATS[0].format(own(caplog)) == f"{SHOWN}|hello"


def test_an_application_writes_what_it_likes(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("somewhere").warning("%s", FORGED)

    assert own(caplog).getMessage() == FORGED


def test_lines_of_a_second_show_its_time() -> None:
    """Made once for each second, in Celery's format or that of the application."""
    logger = logging.getLogger("of.its.own")
    logger.handlers = []
    plain: list[logging.Formatter] = []
    for datefmt in (None, "%H.%M.%S"):
        handler = logging.StreamHandler()
        handler.setFormatter(formatter := ColorFormatter("%(asctime)s %(message)s"))
        formatter.datefmt = datefmt
        logger.addHandler(handler)
        plain.append(logging.Formatter("%(asctime)s %(message)s", datefmt))

    note_format(logger=logger)

    for created in (1_700_000_000.25, 1_700_000_000.999, 1_700_000_001.0, 1_800_000_000.5):
        record = logging.makeLogRecord(
            {"msg": "x", "created": created, "msecs": int(created % 1 * 1000)}
        )
        shown = [handler.format(record) for handler in logger.handlers]
        assert shown == [formatter.format(record) for formatter in plain]


def test_a_traceback_controls_no_terminal() -> None:
    logger = logging.getLogger("with.traceback")
    handler = logging.StreamHandler()
    handler.setFormatter(ColorFormatter("%(message)s"))
    logger.handlers = [handler]
    note_format(logger=logger)

    try:
        raise ValueError(FORGED)
    except ValueError as exc:
        info = (type(exc), exc, exc.__traceback__)
    text = handler.format(logging.makeLogRecord({"msg": "failed", "exc_info": info}))

    assert text.endswith("ValueError: " + SHOWN.replace("\\n", "\n"))


class _Coloured(logging.Formatter):
    @override
    def formatException(self, ei: object) -> str:
        return "\x1b[31min red\x1b[0m"


@pytest.mark.parametrize(
    ("formatter", "expected"),
    [
        (logging.Formatter("%(message)s"), "ValueError: " + SHOWN.replace("\\n", "\n")),
        (None, "ValueError: " + SHOWN.replace("\\n", "\n")),
        (_Coloured("%(message)s"), "\x1b[31min red\x1b[0m"),
    ],
)
def test_a_traceback_controls_no_terminal_with_handlers_of_an_application_either(
    formatter: logging.Formatter | None, expected: str
) -> None:
    """Where CELERY_WORKER_HIJACK_ROOT_LOGGER is off; what writes them by itself is left alone."""
    logger = logging.getLogger("celery.app.trace")
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    try:
        for _ in range(2):
            escape_tracebacks()
    finally:
        logger.removeHandler(handler)

    try:
        raise ValueError(FORGED)
    except ValueError as exc:
        info = (type(exc), exc, exc.__traceback__)
    text = handler.format(logging.makeLogRecord({"msg": "failed", "exc_info": info}))

    assert text.endswith(expected)

import logging
from typing import cast

import structlog
from celery.signals import after_setup_logger, after_setup_task_logger
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, WrappedLogger


def add_task_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = cast("logging.LogRecord", event["_record"])
    event["task_id"] = getattr(record, "task_id", "-")
    return event


shared: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
]
formatter = ProcessorFormatter(
    foreign_pre_chain=shared,
    processors=[
        add_task_id,
        ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ],
)


def use_structlog(logger: logging.Logger, **_: object) -> None:
    for handler in logger.handlers:
        handler.setFormatter(formatter)


def connect() -> None:
    structlog.configure(
        processors=[*shared, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    after_setup_logger.connect(use_structlog)
    after_setup_task_logger.connect(use_structlog)

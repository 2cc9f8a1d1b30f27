from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from celery.signals import after_setup_logger, after_setup_task_logger
from loguru import logger as loguru
from typing_extensions import override

from tomskit.celery import AsyncCelery

if TYPE_CHECKING:
    from loguru import Record


class ToLoguru(logging.Handler):
    @override
    def emit(self, record: logging.LogRecord) -> None:
        bound = loguru.bind(task_id=getattr(record, "task_id", "-"), logger=record.name)
        bound.opt(exception=record.exc_info).log(record.levelname, "{}", record.getMessage())


def use_loguru(logger: logging.Logger, **_: object) -> None:
    logger.handlers[:] = [ToLoguru()]


def write(line: str) -> None:
    print(line, end="", file=sys.__stderr__)  # sys.stderr is a logger in a worker


def add_task_id(record: Record) -> None:
    record["extra"].setdefault("task_id", AsyncCelery.task_id_context.get() or "-")


def connect() -> None:
    loguru.remove()
    loguru.add(write, serialize=True)
    loguru.configure(patcher=add_task_id)
    after_setup_logger.connect(use_loguru)
    after_setup_task_logger.connect(use_loguru)

"""Remote control, whose commands and answers are tried as often as an app's settings for publishing say."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery.app.control import Control
from kombu.pidbox import Mailbox
from typing_extensions import override

from tomskit.celery._internals.kombu import LimitedProducer

if TYPE_CHECKING:
    from celery import Celery

__all__ = ("LimitedControl",)


class _LimitedMailbox(Mailbox):
    """Celery's mailbox tries for ever, and keeps the caller of ``result.revoke()`` and a worker that answers."""

    app: Celery

    @override
    @contextmanager
    def producer_or_acquire(self, *args: Any, **kwargs: Any) -> Generator[Any]:
        with super().producer_or_acquire(*args, **kwargs) as producer:
            yield LimitedProducer(self.app, producer)


class LimitedControl(Control):
    """``app.control``, which raises kombu's OperationalError where the broker stays away."""

    Mailbox: Any = _LimitedMailbox

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        control: Any = self
        control.mailbox.app = app

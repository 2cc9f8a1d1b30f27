"""Results that come in messages, as those of ``rpc://`` do: a task's last word is never lost.

Celery's backend gives a state that it has read back to the broker, and kombu's Redis transport puts it
behind what came meanwhile. An end that came meanwhile was then read first, taken for the older of the
two, and dropped: whoever waited for it waited for ever.

RabbitMQ sends all states over the connection of who has once called ``get()``. Celery reads that in the next ``get()``
only, so that ``ready()`` and `await` found nothing from then on.
"""

from __future__ import annotations

from typing import Any, Final

from celery import states
from typing_extensions import override

from tomskit.celery._internals.celery_replies import ReplyBackend, ReplyConsumer, ReplyMessage
from tomskit.celery._running.forks import ForkLock

__all__ = ("RepliesBackend",)

_AT_ONCE: Final = 0.001
"""Seconds. With none at all kombu's transports wait for ever."""

_TURN_SECONDS: Final = 1.0
"""How long Celery itself waits for the next state at a time."""


class _RepliesConsumer(ReplyConsumer):
    """Celery's, which threads that wait for nothing may read, too."""

    backend: RepliesBackend

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Two threads that read one connection would have a part of a message each.
        self._draining = ForkLock(is_brief=False)

    @override
    def drain_events(self, timeout: float | None = None) -> object:
        if not self._draining.take(_TURN_SECONDS if timeout is None else timeout):
            # As where nothing has come: Celery asks again. The thread that reads handles what comes for this one.
            raise TimeoutError
        try:
            return super().drain_events(timeout=timeout)
        finally:
            self._draining.give()

    def take_what_has_come(self) -> None:
        """Handle what the broker has sent over the connection of ``get()``, without waiting.

        If a thread waits there, it handles that.
        """
        if self._connection is None or not self._draining.take(0):
            return
        try:
            while True:
                super().drain_events(timeout=_AT_ONCE)
        except TimeoutError:
            pass  # there is no more
        finally:
            self._draining.give()

    @override
    def on_state_change(self, meta: dict[str, Any], message: ReplyMessage) -> None:
        super().on_state_change(meta, message)
        if meta["status"] not in states.READY_STATES:
            self.backend.keep_state(meta["task_id"], message)


class RepliesBackend(ReplyBackend):
    """Celery's, which keeps what it reads in memory, in the order in which it was sent."""

    ResultConsumer = _RepliesConsumer
    result_consumer: _RepliesConsumer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Of several threads that read from the queue, one may keep a state after another has its end.
        self._reading = ForkLock(is_brief=False)

    @override
    def get_task_meta(self, task_id: str, backlog_limit: int = 1000) -> dict[str, Any]:
        with self._reading:
            if self._end_of(task_id) is None:
                self.result_consumer.take_what_has_come()
            if self._end_of(task_id) is None:
                self._read_all(task_id, backlog_limit)
            return self._last_of(task_id)

    poll = get_task_meta

    def _read_all(self, task_id: str, at_once: int) -> None:
        while True:
            try:
                for message in self._slurp_from_queue(task_id, self.accept, at_once):
                    self._keep(self._get_message_task_id(message), message)
            except self.BacklogLimitExceeded:
                continue  # Celery gives up here. What was read is kept, so there is less to read.
            return

    def _keep(self, task_id: str, message: ReplyMessage) -> None:
        if message.payload["status"] in states.READY_STATES:
            self._cache[task_id] = self.meta_from_decoded(message.payload)
            self.result_consumer.on_out_of_band_result(message)
        else:
            self.keep_state(task_id, message)
        message.ack()

    def keep_state(self, task_id: str, message: ReplyMessage) -> None:
        """Keep a state that is not the last one of its task."""
        if self._end_of(task_id) is None:
            self._out_of_band[task_id] = message

    def _end_of(self, task_id: str) -> dict[str, Any] | None:
        end = self._cache.get(task_id)
        if end is None and (kept := self._pending_messages.get(task_id)):
            # It was read for another task, and since then as many that the cache has lost it, or by
            # a thread that waits for another one.
            end = self.meta_from_decoded(dict(kept[-1]))
        return end

    def _last_of(self, task_id: str) -> dict[str, Any]:
        end = self._end_of(task_id)
        if end is not None:
            return end
        state = self._out_of_band.get(task_id)
        if state is not None:
            return self.meta_from_decoded(dict(state.payload))
        return {"status": states.PENDING, "result": None}

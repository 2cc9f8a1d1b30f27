"""Results that come in messages, as those of ``rpc://`` do: a task's last word is never lost.

Celery's backend gives a state that it has read back to the broker, and kombu's Redis transport puts it
behind what came meanwhile. An end that came meanwhile was then read first, taken for the older of the
two, and dropped: whoever waited for it waited for ever.
"""

from __future__ import annotations

from typing import Any

from celery import states
from typing_extensions import override

from tomskit.celery._internals.celery_replies import ReplyBackend, ReplyMessage
from tomskit.celery._running.forks import ForkLock

__all__ = ("RepliesBackend",)


class RepliesBackend(ReplyBackend):
    """Celery's, which keeps what it reads in memory, in the order in which it was sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Of several threads that read from the queue, one may keep a state after another has its end.
        self._reading = ForkLock(is_brief=False)

    @override
    def get_task_meta(self, task_id: str, backlog_limit: int = 1000) -> dict[str, Any]:
        with self._reading:
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
        elif self._end_of(task_id) is None:
            self._out_of_band[task_id] = message
        message.ack()

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

"""Celery: the result backend ``rpc://``, whose results come in messages.

`RPCBackend._slurp_from_queue`, `_get_message_task_id`, `meta_from_decoded`, `_cache`, `_out_of_band`,
`_pending_messages`, `BacklogLimitExceeded`, and `on_out_of_band_result` of its ``result_consumer``
    For: keeping states in the order in which they were sent.
    When it is missing: waiting for such a result in an event loop raises AttributeError.

`RPCBackend.ResultConsumer`, its ``_connection``, ``backend``, ``drain_events`` and ``on_state_change``
    For: what the broker has sent over the connection of ``get()``, where others ask for results.
    When it is missing: waiting for such a result in an event loop raises AttributeError, or waits for ever.

`BaseLoader.override_backends`
    For: naming the class of the backend for ``rpc://``.
    When it is missing: making an AsyncCelery's backend raises AttributeError. Where Celery does not look
    at it, a result that is waited for in an event loop can be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

from celery.backends import rpc

__all__ = ("ReplyBackend", "ReplyConsumer", "ReplyMessage")


class ReplyMessage(Protocol):
    """A message with a state of a task."""

    @property
    def payload(self) -> dict[str, Any]: ...
    def ack(self) -> None: ...


if TYPE_CHECKING:

    class ReplyConsumer:
        """``celery.backends.rpc.ResultConsumer``."""

        _connection: object

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...
        def drain_events(self, timeout: float | None = None) -> object: ...
        def on_out_of_band_result(self, message: ReplyMessage) -> None: ...
        def on_state_change(self, meta: dict[str, Any], message: ReplyMessage) -> None: ...

    class ReplyBackend:
        """``celery.backends.rpc.RPCBackend``."""

        BacklogLimitExceeded: type[Exception]
        accept: object
        result_consumer: Any
        _cache: MutableMapping[str, dict[str, Any]]
        _out_of_band: MutableMapping[str, ReplyMessage]
        _pending_messages: Any

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...
        def get_task_meta(self, task_id: str, backlog_limit: int = 1000) -> dict[str, Any]: ...
        def meta_from_decoded(self, meta: dict[str, Any]) -> dict[str, Any]: ...
        def _get_message_task_id(self, message: ReplyMessage) -> str: ...
        def _slurp_from_queue(
            self, task_id: str, accept: object, limit: int = 1000
        ) -> Iterable[ReplyMessage]: ...

else:
    ReplyBackend = rpc.RPCBackend
    ReplyConsumer = rpc.ResultConsumer

"""kombu's channels and acknowledgements where Redis allows no scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

from celery.utils.log import get_logger
from redis.exceptions import NoPermissionError
from typing_extensions import override

from tomskit.celery._internals.kombu_redis import Channel, QoS, expiring_queues_of

__all__ = ("PermittedChannel", "PermittedQoS")

logger: Final = get_logger(__name__)


class PermittedChannel(Channel):
    """Binds queues that expire, and keeps them bound, without permission to run scripts too.

    Attributes:
        unacked_mutex_expire: How many seconds nobody else gives back what killed workers have held, where
            a worker is killed while it does so. Two that do it at once are no harm, as each message is
            given back in a transaction. kombu's five minutes stopped it for a whole fleet. The transport
            option of this name goes before.
    """

    unacked_mutex_expire: ClassVar[int] = 10
    _warns = True

    @override
    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except NoPermissionError:
            # As kombu did before 5.7: the queue of remote control, for instance, is not forgotten.
            if expiring_queues_of(self).pop(queue, None) is None:
                raise
            super()._queue_bind(exchange, routing_key, pattern, queue)

    @override
    def _refresh_bindings(self, queues: Sequence[str]) -> None:
        try:
            super()._refresh_bindings(queues)
        except NoPermissionError as exc:
            # kombu would say so each second, with a traceback, and others would sweep these away in an hour.
            if self._warns:
                self._warns = False
                logger.warning(
                    "The bindings of the queues %s, which expire, are kept for good. To have them swept away "
                    "in time, permit scripts (ACL SETUSER ... +@scripting): %s",
                    ", ".join(sorted(queues)),
                    exc,
                )
            expires = expiring_queues_of(self)
            for queue in queues:
                milliseconds = expires[queue]
                for exchange, binding in _bindings_of(self, queue):
                    self._queue_bind(exchange, *binding)
                expires[queue] = milliseconds
        else:
            self._warns = True

    @override
    def sweep_bindings(self, limit: int = 100) -> int:
        try:
            return super().sweep_bindings(limit)
        except NoPermissionError:
            return 0  # a worker that may run scripts does it


def _bindings_of(channel: Any, queue: str) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """The exchanges that a queue is bound to, and how: routing key, pattern and queue, as kombu keeps it."""
    for exchange, routing_key, arguments in channel.state.queue_bindings(queue):
        kind = channel.typeof(exchange)
        yield exchange, kind.prepare_bind(queue, exchange, routing_key, arguments)


class PermittedQoS(QoS):
    """Gives back what workers that were killed have held, without permission to run scripts too."""

    _warns = True

    @override
    def restore_visible(self, *args: object, **options: object) -> None:
        try:
            super().restore_visible(*args, **options)
        except NoPermissionError as exc:
            # kombu's lock is released by a script, after everything else; it expires by itself.
            if self._warns:
                self._warns = False
                logger.warning(
                    "Messages that a killed worker has held are restored only once in %s seconds. To "
                    "restore them sooner, permit scripts (ACL SETUSER ... +@scripting): %s",
                    self.channel.unacked_mutex_expire,
                    exc,
                )

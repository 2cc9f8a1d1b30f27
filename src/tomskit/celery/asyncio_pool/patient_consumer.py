"""PatientConsumer: a worker's consumer that waits for a broker that cannot be written to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

import vine
from amqp.exceptions import ResourceLocked
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE
from celery.utils.log import get_logger
from kombu.asynchronous import set_event_loop
from kombu.transport import redis as kombu_redis
from redis.exceptions import AskError, ClusterCrossSlotError, ResponseError
from typing_extensions import override

from tomskit.celery._client.retrying import Outage, Reminder, Retrying
from tomskit.celery._internals.celery_prefork import tags_of_kept
from tomskit.celery._internals.celery_worker import (
    Consumer,
    stop_if_requested,
    stop_worker,
    tags_of_running_tasks,
    tags_of_tasks_that_wait,
)
from tomskit.celery._internals.kombu_redis import channels_of
from tomskit.celery.fast_redis.outstanding import KeepingChannel, Outstanding
from tomskit.celery.fast_redis.unfetched import Unfetched
from tomskit.redis.away import ServerAwayError, as_python_shows, is_away, is_refused

if TYPE_CHECKING:
    from collections.abc import Callable

    import kombu
    from kombu import Connection
    from kombu.asynchronous import Hub

    from tomskit.celery._internals.celery_worker import TimerEntry
    from tomskit.celery._internals.kombu_redis import Channel

__all__ = ("PatientConsumer",)

logger: Final = get_logger(__name__)

_SLICE_SECONDS: Final = 0.1
"""How often a pause looks whether the worker is to stop."""

_PROVEN_SECONDS: Final = 3.0
"""A connection that lasts so long is one that works: the pauses begin anew after it."""

_AT_ONCE_SECONDS: Final = 1.0
"""A connection that is lost so soon was of no use, and the next one waits."""


class PatientConsumer(Consumer):
    """Put in front of a class of consumers, waits until the broker does what it is asked.

    Celery waits for a broker that cannot be reached. One that can be reached and is a replica, or
    cannot write to its disk, would fail it again and again.
    """

    task_consumer: kombu.Consumer | None = None
    connection_errors: tuple[type[Exception], ...]

    def __init__(self, *args: Any, **options: Any) -> None:
        self._outage = Outage("consume messages", "the broker", logger)
        self._retrying = Retrying(self._outage)
        self._lost: Exception | None = None
        self._ready_at: float | None = None
        self._proof: TimerEntry | None = None
        self._outstanding: list[Outstanding] = []
        self._unfetched = Unfetched()
        super().__init__(*args, **options)
        # What Celery connects again after. RabbitMQ gives queues that belong to one connection, as that of remote
        # control does, to another one when it has noticed that the first is gone.
        self.connection_errors = (*self.connection_errors, ResourceLocked)

    @override
    def start(self) -> None:
        try:
            super().start()
        except (AskError, ClusterCrossSlotError) as exc:
            logger.critical(
                "The broker belongs to a Redis Cluster, which kombu's transport cannot use: %s. Use a "
                "Redis that is not a cluster, behind Sentinels if it has to fail over.",
                exc,
            )
            _fail()
        except ResponseError as exc:
            if not is_refused(exc):
                raise
            # Waiting would not help, and neither would where in Celery it was raised.
            logger.critical(
                "The broker refuses what a worker needs: %s. Grant it (ACL SETUSER); without "
                "channels (&*), set CELERY_WORKER_ENABLE_REMOTE_CONTROL=false.",
                exc,
            )
            _fail()

    @override
    def connection_for_read(self, heartbeat: float | None = None) -> Connection:
        lost, self._lost = self._lost, None
        if lost is not None:
            # What is refused may be what the probe does not ask for.
            is_first = not self._outage.lasts
            pause = self._retrying.failed(lost)
            if isinstance(lost, ResourceLocked) and is_first:
                logger.warning(
                    "RabbitMQ keeps a queue for another connection of a worker of this name, and is tried again: it "
                    "gives the queue up when it notices that an earlier connection is gone, by its heartbeats. If "
                    "another worker of this name runs, start one of them with another --hostname."
                )
            if isinstance(lost, ServerAwayError):
                logger.warning(
                    "The broker can be connected to and refuses to give messages; trying again in %.1f s: "
                    "%s. Look at its memory (maxmemory), its disk and whether it is a replica.",
                    pause,
                    lost,
                )
            self._pause(pause)
        while True:
            connection: Connection = super().connection_for_read(heartbeat=heartbeat)
            try:
                if isinstance(connection.transport, kombu_redis.Transport):
                    _probe(connection.default_channel)
            except Exception as exc:  # noqa: BLE001 (what is not allowed is seen where it is needed)
                if is_away(exc):
                    connection.collect()
                    self._pause(self._retrying.failed(exc))
                    continue
            return connection

    @override
    def ensure_connected(self, conn: Connection) -> Connection:
        # Celery would write a line for each try.
        connect, last = conn.ensure_connection, ""
        reminder = Reminder()

        def connect_quietly(
            write: Callable[[Exception, float], None], *args: Any, **options: Any
        ) -> object:
            def write_seldom(exc: Exception, pause: float) -> None:
                nonlocal last
                before, last = last, as_python_shows(exc)
                if reminder.is_due(time.monotonic(), is_new=last != before):
                    write(exc, pause)
                elif pause > 0:
                    self.broker_connection_retry_attempt += 1

            return connect(write_seldom, *args, **options)

        # For the call below, which makes it once.
        connection: Any = conn
        connection.ensure_connection = connect_quietly
        try:
            return super().ensure_connected(conn)
        finally:
            del connection.ensure_connection

    def settle(self) -> None:
        """Acknowledge or give back what earlier connections have left; in a call that may block."""
        channel: Any = None if self.task_consumer is None else self.task_consumer.channel
        if isinstance(channel, KeepingChannel):
            channel.unfetched = self._unfetched
        while self._outstanding and isinstance(channel, KeepingChannel):
            # It is dropped only afterwards: the connection may be lost again.
            self._outstanding[0].settle(channel, tags_of_running_tasks())
            del self._outstanding[0]

    @override
    def create_task_handler(
        self, promise: Callable[..., object] = vine.promise
    ) -> Callable[..., object]:
        channel: object = None if self.task_consumer is None else self.task_consumer.channel
        if promise is vine.promise:
            promise = self.promise_of(channel)
        return super().create_task_handler(promise=promise)

    def promise_of(self, channel: object) -> Callable[..., object]:
        """What is made for each message of a channel, to acknowledge or to reject it."""
        return _Settling if isinstance(channel, KeepingChannel) else vine.promise

    @override
    def on_ready(self) -> None:
        self.settle()
        self._ready_at = time.monotonic()
        if self._outage.lasts:
            self._proof = self.timer.call_after(_PROVEN_SECONDS, self._on_proven)
        super().on_ready()

    def _on_proven(self) -> None:
        self._retrying = Retrying(self._outage)
        self._outage.ended()

    @override
    def on_connection_error_after_connected(self, exc: Exception) -> None:
        ready_at, self._ready_at = self._ready_at, None
        if self._proof is not None:
            self._proof.cancel()
            self._proof = None
        is_new = ready_at is None or time.monotonic() - ready_at < _AT_ONCE_SECONDS
        waits = isinstance(exc, (ServerAwayError, ResourceLocked))
        if waits or (is_new and is_away(exc)):
            self._lost = exc
        hub: Hub | None = getattr(self, "hub", None)
        if hub is not None:
            # kombu has forgotten it, as if it were closed. Without it, prefork acknowledges tasks that end
            # while the worker stops only when all have ended, and sends no heartbeats meanwhile.
            set_event_loop(hub)
        channel: object = None if self.task_consumer is None else self.task_consumer.channel
        waiting = tags_of_tasks_that_wait(self.pool) | tags_of_kept(self.pool)
        outstanding = Outstanding.of(channel, waiting=waiting)
        if outstanding is not None:
            self._outstanding.append(outstanding)
        if isinstance(channel, KeepingChannel):
            # Closing them would wait for answers.
            for one in channels_of(self.connection):
                if isinstance(one, KeepingChannel):
                    one.abandon()
        super().on_connection_error_after_connected(exc)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            stop_if_requested()
            time.sleep(min(left, _SLICE_SECONDS))


class _Settling(vine.promise):
    """Celery's promise to acknowledge or reject a message in the next turn, of which its channel knows at once.

    There may be another connection before that turn, on which the message would be given back.
    """

    @override
    def __call__(self, *args: object, **options: object) -> object:
        settle: Any = (self.args or (None,))[0]
        message: Any = settle.__self__
        channel: object = message.channel
        if isinstance(channel, KeepingChannel):
            channel.settling.add(message.delivery_tag)
        return super().__call__(*args, **options)


def _fail() -> NoReturn:
    """End the worker once its tasks have ended; they do not wait for a result backend that refuses them too."""
    stop_worker(EX_FAILURE)
    raise WorkerShutdown(EX_FAILURE) from None


def _probe(channel: Any) -> None:
    """Ask Redis to write, without any effect.

    Raises:
        ServerAwayError: It cannot do that now. A Redis whose memory is full can: taking messages from it
            is what helps.
    """
    found: Channel = channel
    with found.conn_or_acquire() as client:
        client.hdel(found.unacked_key, "")

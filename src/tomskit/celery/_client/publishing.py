"""Publishing to Redis from an event loop, with Celery's and kombu's own code.

That code is synchronous. It runs in a greenlet, and kombu's channel has a client that waits in the
loop, so exchanges, priorities, fanout, the global key prefix and all else that a channel does stay the
same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from celery import Celery
from celery.utils.log import get_logger
from kombu import Connection, Producer
from kombu.transport import redis as kombu_redis
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.retrying import Outage, Retrying, pauses_of, publish_pauses
from tomskit.celery._internals.celery_messages import lock_free_dispatcher
from tomskit.celery._internals.kombu import (
    arguments_of,
    as_library_errors,
    has_alternatives,
    is_declared,
)
from tomskit.celery._internals.kombu_redis import Channel
from tomskit.celery._internals.redis_connections import Command
from tomskit.celery._running.greenlets import await_here
from tomskit.celery._running.places import GreenletPlace, here, publishes_patiently
from tomskit.celery.fast_redis.batches import Batches
from tomskit.celery.fast_redis.loop_redis import LoopRedis, loop_redis
from tomskit.celery.fast_redis.parts import Parts, connection_class
from tomskit.lazily import cached_property

if TYPE_CHECKING:
    import redis

__all__ = ("LoopProducer", "Sender", "publishes_in_loop")

R = TypeVar("R")

logger: Final = get_logger(__name__)


class Sender(GreenletPlace):
    """A greenlet that publishes messages of an app, without blocking its event loop.

    Attributes:
        commands: The commands that the broker was given.
    """

    __slots__ = ("_app", "_producer", "commands")

    patient = False

    def __init__(self, app: AsyncApp, producer: LoopProducer) -> None:
        self.commands: list[Command] = []
        self._app = app
        self._producer = producer

    @override
    def producer_for(self, app: AsyncApp) -> LoopProducer | None:
        return self._producer if app is self._app else None

    @override
    def publish(
        self,
        app: AsyncApp,
        send_task: Callable[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> R:
        if app is not self._app:
            return super().publish(app, send_task, args, kwargs)
        if app.conf.task_send_sent_event:
            kwargs.setdefault("event_dispatcher", self._producer.events)
        return send_task(*args, **kwargs)


def publishes_in_loop(app: Celery) -> bool:
    """Whether messages of this app can be sent without blocking an event loop."""
    return issubclass(_connection(app, Connection).get_transport_cls(), kombu_redis.Transport)


class _NotedBatches(Batches):
    @override
    async def run(self, *commands: Command, transaction: bool = False) -> list[object]:
        place = here()
        if isinstance(place, Sender):
            place.commands.extend(commands)
        return await super().run(*commands, transaction=transaction)


class _LoopChannel(Channel):
    """A channel for greenlets."""

    @cached_property
    def loop_client(self) -> LoopRedis:
        batches = _NotedBatches(self.pool)
        return loop_redis(self.pool, batches, prefix=self.global_keyprefix)

    @override
    def _create_client(self, asynchronous: bool = False) -> redis.Redis:
        return self.loop_client


_PARTS = Parts(channel=(_LoopChannel,))


def _connection(app: Celery, kind: type[Connection]) -> Connection:
    return kind(**arguments_of(app.connection_for_write()))


class LoopProducer(Producer):
    """A producer for greenlets of one event loop.

    Like any producer it raises redis-py's errors; Celery raises `kombu.exceptions.OperationalError` in
    their place.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._outage = Outage("publish a task", "the broker", logger)
        self._kombu: Connection = _connection(app, connection_class(_PARTS))
        super().__init__(
            self._new_channel(), auto_declare=False, serializer=app.conf.task_serializer
        )

    def _new_channel(self) -> Any:
        transport = self._kombu.transport
        return transport.create_channel(transport)

    @cached_property
    def events(self) -> object:
        """Sends the events that Celery sends with messages."""
        return lock_free_dispatcher(self._app)

    @override
    def publish(
        self,
        *args: Any,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        # With retry=True kombu would sleep and connect in the loop's thread.
        if retry and (retry_policy or {}) == (self._app.conf.task_publish_retry_policy or {}):
            retrying = self._retrying_by_settings()
        else:
            retrying = self._retrying(pauses_of(**(retry_policy or {})) if retry else iter(()))
        return retrying.run(
            partial(super().publish, *args, **options),
            sleep=lambda seconds: await_here(self._before_retry(seconds)),
        )

    async def push(self, key: str, message: bytes) -> None:
        """Put a message at the end of a list in Redis, as `publish` does for a queue.

        It is retried as the app's settings say, or, in a task of the asyncio pool, until the broker returns.

        Raises:
            kombu.exceptions.OperationalError: The broker is away.
        """
        try:
            await self._batches.push(key, message)
        except Exception as exc:  # noqa: BLE001 (`failed` raises it where it is not to be retried)
            retrying = self._retrying_by_settings()
            with as_library_errors(self._kombu):
                await self._before_retry(retrying.failed(exc))
                await retrying.run_async(
                    partial(self._batches.push, key, message), self._before_retry
                )

    async def push_each(
        self, messages: Mapping[str, Sequence[bytes]], retry_policy: Mapping[str, Any]
    ) -> dict[str, Exception]:
        """Put messages at the ends of lists in Redis, in one write.

        Returns:
            The lists that Redis has refused, and why.

        Raises:
            kombu.exceptions.OperationalError: The broker is away.
        """
        commands = [("LPUSH", key, *values) for key, values in messages.items()]
        retrying = self._retrying(pauses_of(**retry_policy))
        with as_library_errors(self._kombu):
            answers = await retrying.run_async(
                lambda: self._batches.run(*commands), self._before_retry
            )
        return {
            key: self._as_raised(answer)
            for key, answer in zip(messages, answers, strict=True)
            if isinstance(answer, Exception)
        }

    def _as_raised(self, error: Exception) -> Exception:
        try:
            with as_library_errors(self._kombu):
                raise error  # noqa: TRY301 (what it is raised as is wanted)
        except Exception as exc:  # noqa: BLE001 (it is the caller's)
            return exc

    def _retrying_by_settings(self) -> Retrying:
        conf = self._app.conf
        if conf.task_publish_retry and publishes_patiently():
            # As in a task that publishes without an await; see `Place.publish`.
            given_up = self._app.async_client.given_up if isinstance(self._app, AsyncApp) else None
            return Retrying(self._outage, given_up=given_up)
        return self._retrying(publish_pauses(conf))

    def _retrying(self, pauses: Iterator[float]) -> Retrying:
        return Retrying(self._outage, pauses=pauses, timeout=self._batches.timeout)

    async def _before_retry(self, seconds: float) -> None:
        await self._fail_over()
        await asyncio.sleep(seconds)

    @override
    def maybe_declare(self, entity: Any, retry: bool = False, **retry_policy: Any) -> Any:
        # kombu copies the queue and its exchange to find that out, a quarter of a call's time.
        if entity and entity.can_cache_declaration and is_declared(self._kombu, entity):
            return False
        return super().maybe_declare(entity, retry, **retry_policy)

    async def _fail_over(self) -> None:
        """Go on with the next of the broker's URLs, where there are several."""
        if isinstance(self._kombu.transport, kombu_redis.SentinelTransport):
            return  # redis-py asks all sentinels by itself
        if has_alternatives(self._kombu):
            await self.close_connections()
            self._kombu.maybe_switch_next()
            self.revive(self._new_channel())

    async def close_connections(self) -> None:
        """Close the connections to the broker."""
        await self._batches.close()

    @property
    def _batches(self) -> Batches:
        channel: Any = self.channel
        client: LoopRedis = channel.loop_client
        return client.batches

"""Publishing to Redis from an event loop, with Celery's and kombu's own code.

That code is synchronous. It runs in a greenlet, and kombu's channel has a client that waits in the
loop, so exchanges, priorities, fanout, the global key prefix and whatever else a channel knows are as
ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import redis
from celery import Celery
from celery.utils.log import get_logger
from kombu import Connection, Producer
from kombu.transport import redis as kombu_redis
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.retrying import Retrying, pauses_of
from tomskit.celery._internals import kombu as kombu_types
from tomskit.celery._running.greenlets import await_here
from tomskit.celery._running.places import GreenletPlace, here
from tomskit.celery.fast_redis.batches import Batches, Command
from tomskit.celery.fast_redis.connection import Parts, connection_class
from tomskit.celery.fast_redis.loop_redis import LoopRedis, loop_redis

__all__ = ("LoopProducer", "Sender", "publishes_in_loop")

R = TypeVar("R")

logger: Final = get_logger(__name__)


class Sender(GreenletPlace):
    """A greenlet that publishes messages of an app, without blocking its event loop.

    Attributes:
        commands: What the broker was told.
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
    transport = Connection.get_transport_cls(_connection(app, Connection))
    return issubclass(cast("type", transport), kombu_redis.Transport)


class _NotedBatches(Batches):
    @override
    async def run(self, *commands: Command, transaction: bool = False) -> list[object]:
        place = here()
        if isinstance(place, Sender):
            place.commands.extend(commands)
        return await super().run(*commands, transaction=transaction)


class _LoopChannel(kombu_types.Channel):
    """A channel for greenlets."""

    if TYPE_CHECKING:
        __dict__: dict[str, Any]

    @override
    def _create_client(self, asynchronous: bool = False) -> redis.Redis:
        client: LoopRedis | None = self.__dict__.get("_loop_client")
        if client is None:
            batches = _NotedBatches(self.pool)
            client = loop_redis(self.pool, batches, prefix=self.global_keyprefix)
            self.__dict__["_loop_client"] = client
        return client


_PARTS = Parts(channel=(_LoopChannel,))


def _connection(app: Celery, kind: type[Connection]) -> Connection:
    known = cast("_Known", app.connection_for_write())
    return kind(**dict(known._info(resolve=False)))  # noqa: SLF001 (as its clone())


class LoopProducer(Producer):
    """A producer for greenlets of one event loop.

    Raises redis-py's errors, as any producer; Celery makes `kombu.exceptions.OperationalError` of
    them.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._kombu: Connection = _connection(app, connection_class(_PARTS))
        super().__init__(
            self._new_channel(), auto_declare=False, serializer=app.conf.task_serializer
        )

    def _new_channel(self) -> Any:
        transport = cast("_Transport", self._kombu.transport)
        return transport.create_channel(transport)

    @cached_property
    def events(self) -> object:
        """Sends the events that Celery sends with messages.

        Its own keeps a lock meanwhile. Of two greenlets of a thread the second one would wait for it,
        and the first one could never go on.
        """
        dispatcher = cast("_App", self._app).events.Dispatcher(enabled=False)
        dispatcher.mutex = nullcontext()
        return dispatcher

    @override
    def publish(
        self,
        *args: Any,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        # What kombu does for retry=True would sleep and connect in the loop's thread.
        pauses = pauses_of(**(retry_policy or {})) if retry else iter(())
        return self._retrying(pauses).run(
            partial(super().publish, *args, **options),
            sleep=lambda seconds: await_here(self._before_retry(seconds)),
        )

    async def push(self, key: str, message: bytes) -> None:
        """Put a message at the end of a list in Redis, as `publish` does for a queue.

        It is retried as the app's settings say.

        Raises:
            kombu.exceptions.OperationalError: The broker is away.
        """
        try:
            await self._batches.push(key, message)
        except Exception as exc:  # noqa: BLE001 (`failed` raises what is not to be retried)
            conf = self._app.conf
            retry, policy = conf.task_publish_retry, conf.task_publish_retry_policy
            retrying = self._retrying(pauses_of(**policy) if retry else iter(()))
            with cast("_Known", self._kombu)._reraise_as_library_errors():  # noqa: SLF001
                await self._before_retry(retrying.failed(exc))
                await retrying.run_async(
                    partial(self._batches.push, key, message), self._before_retry
                )

    def _retrying(self, pauses: Iterator[float]) -> Retrying:
        return Retrying(
            "publish a task",
            "the broker",
            is_away=lambda exc: isinstance(exc, self._kombu.recoverable_connection_errors),
            pauses=pauses,
            logger=logger,
        )

    async def _before_retry(self, seconds: float) -> None:
        await self._fail_over()
        await asyncio.sleep(seconds)

    @override
    def maybe_declare(self, entity: Any, retry: bool = False, **retry_policy: Any) -> Any:
        if entity and entity.can_cache_declaration:
            # kombu copies the queue and its exchange to find that out, a quarter of a call's time.
            declared = cast("_Known", self._kombu).declared_entities
            if hash(entity) in declared:
                return False
        return super().maybe_declare(entity, retry, **retry_policy)

    async def _fail_over(self) -> None:
        """Go on with the next of the broker's URLs, where there are several."""
        transport = cast("_Transport", self._kombu.transport)
        if isinstance(transport, kombu_redis.SentinelTransport):
            return  # redis-py asks all sentinels by itself
        if len(cast("_Known", self._kombu).alt) > 1:
            await self.close_connections()
            self._kombu.maybe_switch_next()
            self.revive(self._new_channel())

    async def close_connections(self) -> None:
        """Close the connections to the broker."""
        await self._batches.close()

    @property
    def _batches(self) -> Batches:
        client = cast("_LoopChannel", self.channel)._create_client()  # noqa: SLF001
        return cast("LoopRedis", client).batches


if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Protocol

    class _Dispatcher(Protocol):
        mutex: AbstractContextManager[object]

    class _Events(Protocol):
        def Dispatcher(self, *, enabled: bool) -> _Dispatcher: ...  # noqa: N802

    class _App(Protocol):
        events: _Events

    class _Known(Protocol):
        alt: list[str]
        declared_entities: set[int]

        def _info(self, *, resolve: bool) -> list[tuple[str, Any]]: ...
        def _reraise_as_library_errors(self) -> AbstractContextManager[None]: ...

    class _Transport(Protocol):
        def create_channel(self, connection: object) -> Any: ...

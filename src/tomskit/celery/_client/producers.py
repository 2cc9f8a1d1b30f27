"""ThreadProducer: publishes from a thread, over the loss of its connection.

kombu's producer, where a message's queue has to be declared first and the connection is lost meanwhile, makes
another one for the declaration, and goes on with the channel of the lost one: AttributeError, "'NoneType' object
has no attribute 'client'". The same where it is kept over an error. Nothing was sent then.
"""

from __future__ import annotations

from typing import Any, Final

from kombu import Connection, Producer
from kombu.pools import PoolGroup, ProducerPool, connections, get_limit, register_group
from typing_extensions import override

from tomskit.celery._internals.celery_messages import Messages
from tomskit.celery._internals.kombu import has_closed_channel
from tomskit.celery.fast_redis.parts import Parts, connection_class

__all__ = ("ThreadMessages", "ThreadProducer")


class ThreadProducer(Producer):
    """A producer whose messages, and what is declared for them, always go to its connection's channel."""

    _is_publishing = False

    @override
    def publish(self, *args: Any, **options: Any) -> Any:
        connection: Any = self.connection
        if connection is not None and has_closed_channel(self):
            self.revive(connection)
        self._is_publishing = True
        try:
            return super().publish(*args, **options)
        finally:
            self._is_publishing = False

    @override
    def maybe_declare(self, entity: Any, retry: bool = False, **retry_policy: Any) -> Any:
        # `publish` itself tries again what fails here, as often as the policy says, and with a new channel.
        return super().maybe_declare(entity, retry and not self._is_publishing, **retry_policy)


class _Pools(PoolGroup):
    """Pools of such producers, one for each broker, beside kombu's own."""

    @override
    def create(self, resource: Connection, limit: int | None) -> ProducerPool:
        return ProducerPool(connections[resource], Producer=ThreadProducer, limit=get_limit())


# So that kombu changes their limit and closes them together with its own.
_pools: Final = register_group(_Pools())


class ThreadMessages(Messages):
    """What makes and sends the messages of an app, by such producers, on connections that do not wait for ever."""

    Connection: Any = connection_class(Parts())
    Producer: Any = ThreadProducer

    @override
    def new_producer_pool(self) -> ProducerPool:
        pool: ProducerPool = _pools[self.app.connection_for_write()]
        pool.limit = self.app.pool.limit
        return pool

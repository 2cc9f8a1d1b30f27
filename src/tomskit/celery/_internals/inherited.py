"""Celery and kombu: what a process that was forked inherits of a client.

`kombu.utils.objects.cached_property`, its ``lock``
    For: a process that is forked while other threads send tasks. There is one lock for all objects of a class,
    which is taken whenever the attribute is read: such as for ``app.amqp``, and for the client of each channel.
    When it is missing: such a process may wait for ever when it sends a task, if kombu still has such a lock.

`multiprocessing.util._afterfork_registry`, in which kombu registers the channels to Redis, their `_pool` and
`_async_pool`, and of these redis-py's `ConnectionPool._lock`
    For: a process that multiprocessing forks. kombu has each channel disconnect there, which takes this lock.
    When it is missing: AttributeError in such a process, which Python writes and ignores. It may wait for ever
    before it begins.

`kombu.pools._groups`, `Celery._pool` and `AMQP._producer_pool`
    For: the same. The parent's connections to the broker may all be in use by its threads. kombu begins anew by
    itself, but only in processes of multiprocessing and billiard.
    When it is missing: AttributeError in a process that was forked, which Python writes and ignores. It may wait
    for ever for a connection that one of the parent's threads has taken.

`AMQP._event_dispatcher`, its ``mutex``, and `LamportClock.mutex`
    For: the same, with ``task_send_sent_event``.
    When it is missing: such a process may wait for ever when it sends a task, if there still is such a lock.

`Mailbox.producer_pool`, as `Celery.control` has it
    For: the same, of remote control.
    When it is missing: the same.
"""

from __future__ import annotations

import sys
import threading
from multiprocessing import util as processes
from typing import Any

from kombu import pools
from kombu.utils.objects import cached_property

__all__ = ("renew_locks", "take_pools", "take_pools_of")

_PACKAGES = ("celery.", "kombu.")


def renew_locks() -> None:
    """Let nobody hold a lock of kombu's cached properties, or of the connections of its channels to Redis."""
    _renew_locks_of_properties()
    if (transport := sys.modules.get("kombu.transport.redis")) is not None:
        untyped: Any = processes
        for one in untyped._afterfork_registry.values():
            if isinstance(one, transport.Channel):
                for pool in (one._pool, one._async_pool):
                    if pool is not None:
                        pool._lock = threading.RLock()


def _renew_locks_of_properties() -> None:
    for name, module in tuple(sys.modules.items()):
        if not name.startswith(_PACKAGES):
            continue
        for kind in tuple(_attributes(module).values()):
            # Not by isinstance, which evaluates proxies.
            if issubclass(type(kind), type) and kind.__module__ == name:
                for attribute in tuple(_attributes(kind).values()):
                    if issubclass(type(attribute), cached_property):
                        attribute.lock = threading.RLock()


def take_pools() -> list[object]:
    """Take all pools of connections and producers from kombu, which makes new ones; keep them, or they are closed."""
    taken: list[object] = []
    untyped: Any = pools
    for group in untyped._groups:
        taken += group.values()
        group.clear()
    return taken


def take_pools_of(app: Any) -> list[object]:
    """The same of an app, whose locks are free then."""
    taken: list[object] = [app._pool]
    app._pool = None
    app.clock.mutex = threading.Lock()
    attributes = _attributes(app)
    messages, control = attributes.get("amqp"), attributes.get("control")
    if messages is not None:
        taken.append(messages._producer_pool)
        messages._producer_pool = None
        dispatcher = _attributes(messages).get("_event_dispatcher")
        if dispatcher is not None:
            dispatcher.mutex = threading.Lock()
    if control is not None:
        taken.append(_attributes(control.mailbox).pop("producer_pool", None))
    return taken


def _attributes(owner: object) -> dict[str, Any]:
    """Those that it has itself: none is made by asking."""
    return vars(owner)

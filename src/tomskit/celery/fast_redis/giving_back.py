"""Gives messages back to their queues, many in two calls to Redis, whatever other workers do meanwhile.

kombu watches the key of all unacknowledged messages for each one that it gives back, and starts over when it has
changed. Where other workers take and acknowledge messages all the time it hardly ever finishes: a worker that gave
back what another one had held took no messages itself for minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby
from typing import Any, Final, TypeVar
from uuid import uuid4

from celery.utils.log import get_logger
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError
from typing_extensions import override

from tomskit.celery._internals.kombu_redis import (
    Client,
    Message,
    plain_pipeline,
    restore_message,
    restore_payload,
)
from tomskit.celery._internals.redis_connections import Command
from tomskit.celery.fast_redis.permissions import PermittedQoS
from tomskit.celery.fast_redis.scripts import LOOK, RESTORE, RESTORE_LONG, is_forbidden

__all__ = ("RestoringQoS", "portions")

logger: Final = get_logger(__name__)

T = TypeVar("T")

_UNREADABLE: Final = (TypeError, ValueError)
"""What is raised for a record that is not kombu's."""

_AT_ONCE: Final = 20
"""How many messages go back together, at most."""
_BYTES_AT_ONCE: Final = 8_000_000
"""Bytes that they may have together, not counting the first: all are in memory at that moment, more than once."""
_LONG: Final = 100_000
"""A message with more bytes goes back without its body being sent to and fro."""


def portions(tags: Iterable[str]) -> Iterator[list[str]]:
    """Split delivery tags into lists that are given back together."""
    every = list(tags)
    for first in range(0, len(every), _AT_ONCE):
        yield every[first : first + _AT_ONCE]


def _within(most: int, sized: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """Split items with sizes into lists of at most `most` together, not counting the first of each."""
    some: list[T] = []
    left = most
    for one, size in sized:
        if some:
            left -= size
            if left < 0:
                yield some
                some, left = [], most
        some.append(one)
    if some:
        yield some


class RestoringQoS(PermittedQoS):
    """Gives messages back by a script, which moves those that are still recorded."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._visible: list[str] | None = None
        super().__init__(*args, **kwargs)

    def give_back(
        self,
        tags: Collection[str],
        client: Client | None = None,
        *,
        leftmost: bool = False,
        latest: float | None = None,
        unsent: bool = False,
    ) -> int:
        """Give back messages that are recorded, in this order.

        Args:
            tags: Their delivery tags.
            client: Executes the commands; one of the channel's pool if it is None.
            leftmost: Whether they are to be the last ones of their queues, and not the next ones.
            latest: A message that was recorded after this time is left alone.
            unsent: Whether no body is to be sent to and fro: it may be what the connection was lost by.

        Returns:
            How many there were.
        """
        found = 0
        for some, is_long in self._portions(tags, client, 0 if unsent else _LONG):
            if is_long and self._give_back_long(some[0], client, leftmost, latest):
                found += 1
                continue
            records = self._records(some, client)
            found += sum(record is not None for record in records)
            commands = [
                command
                for tag, record in zip(some, records, strict=True)
                if (command := self._command(tag, record, leftmost, latest)) is not None
            ]
            try:
                self.execute(commands, client)
            except ResponseError as exc:
                if not is_forbidden(exc):
                    raise
                for tag in some:
                    self._give_back_by_transaction(tag, client, leftmost)
        return found

    @override
    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        # Without a client it is a message that a task rejects, perhaps in another thread.
        if self._visible is None or client is None:
            self.give_back([tag], client, leftmost=leftmost)
        else:
            self._visible.append(tag)

    @override
    def restore_visible(self, *args: object, **options: object) -> None:
        visible: list[str] = []
        self._visible = visible
        try:
            # It looks for those whose visibility timeout is over, and calls restore_by_tag with each.
            super().restore_visible(*args, **options)
        finally:
            self._visible = None
        # Another worker may have given them back since then, and they may have been delivered again.
        self.give_back(visible, latest=time.time() - self.visibility_timeout)

    def execute(self, commands: list[Command], client: Client | None = None) -> list[Any]:
        """Have Redis execute commands with whole keys, at once, and return the answers."""
        if not commands:
            return []
        with self.channel.conn_or_acquire(client) as redis:
            pipeline = plain_pipeline(redis)
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute()

    def execute_large(self, commands: Iterable[Command], client: Client | None = None) -> None:
        """Have Redis execute commands that end in a message each, in order, not all of them at once."""
        for some in _within(_BYTES_AT_ONCE, ((one, len(str(one[-1]))) for one in commands)):
            self.execute(some, client)

    def restoring(self, message: Message, *, leftmost: bool = False) -> Command | None:
        """The command that gives a message back; None if its queue is no longer known."""
        pushes = _Pushes(self.channel.global_keyprefix)
        restore_message(self.channel, message, pushes, leftmost=leftmost)
        # It stays unacknowledged.
        return self._script(message.delivery_tag, None, pushes) if pushes.made else None

    def _portions(
        self, tags: Collection[str], client: Client | None, long: int
    ) -> Iterator[tuple[list[str], bool]]:
        """Some of the tags at once, or that of one message with more than `long` bytes."""
        for some in portions(tags):
            sized = zip(some, self.sizes(some, client), strict=True)
            for is_long, alike in groupby(sized, lambda one: one[1] > long):
                most = 0 if is_long else _BYTES_AT_ONCE
                for portion in _within(most, alike):
                    yield portion, is_long

    def sizes(self, tags: Collection[str], client: Client | None = None) -> list[int]:
        """How many bytes the records of messages have."""
        records, _ = self.channel.unacked_keys
        return self.execute([("HSTRLEN", records, tag) for tag in tags], client)

    def _give_back_long(
        self, tag: str, client: Client | None, leftmost: bool, latest: float | None
    ) -> bool:
        """Give back a message without its body being sent; False if that cannot be done."""
        keys = self.channel.unacked_keys
        word = uuid4().hex
        try:
            [record] = self.execute([("EVAL", LOOK, 1, keys[0], tag, word)], client)
        except ResponseError as exc:
            if not is_forbidden(exc):
                raise
            return False
        if record is None:
            return False
        made: list[str] = []
        try:
            pushes = self._pushes(record, leftmost)
        except _UNREADABLE:
            return False
        for command, key, text in pushes.each():
            before, found, after = text.partition(word)
            if not found or word in after:
                return False
            made += [command, key, before, after]
        if not made:
            return False
        time_limit = "" if latest is None else repr(latest)
        self.execute([("EVAL", RESTORE_LONG, len(keys), *keys, tag, time_limit, *made)], client)
        return True

    def _records(self, tags: list[str], client: Client | None) -> list[bytes | None]:
        records: list[bytes | None]
        [records] = self.execute([("HMGET", self.channel.unacked_keys[0], *tags)], client)
        return records

    def _command(
        self, tag: str, record: bytes | None, leftmost: bool, latest: float | None
    ) -> Command | None:
        pushes = _Pushes(self.channel.global_keyprefix)
        if record is not None:
            try:
                pushes = self._pushes(record, leftmost)
            except _UNREADABLE:
                logger.critical(
                    "Cannot give back a record that is not a message of kombu: %.1000r", record
                )
                return None
            if not pushes.made:
                return None
        return self._script(tag, latest, pushes)

    def _pushes(self, record: bytes, leftmost: bool) -> _Pushes:
        """What kombu would push to give back what is recorded."""
        pushes = _Pushes(self.channel.global_keyprefix)
        payload, exchange, routing_key = loads(record.decode())
        restore_payload(self.channel, payload, exchange, routing_key, pushes, leftmost=leftmost)
        return pushes

    def _script(self, tag: str, latest: float | None, pushes: _Pushes) -> Command:
        keys = self.channel.unacked_keys
        time_limit = "" if latest is None else repr(latest)
        return ("EVAL", RESTORE, len(keys), *keys, tag, time_limit, *pushes.made)

    def _give_back_by_transaction(self, tag: str, client: Client | None, leftmost: bool) -> None:
        with self.channel.conn_or_acquire(client) as found:
            super().restore_by_tag(tag, _EndingTransactions(found), leftmost)


class _Pushes:
    """Stands in for a pipeline, and collects what kombu would push."""

    def __init__(self, prefix: str) -> None:
        self.made: list[str] = []
        self._prefix = prefix

    def each(self) -> Iterator[tuple[str, str, str]]:
        """A command, a list and a message, for each list."""
        texts = iter(self.made)
        return zip(texts, texts, texts, strict=True)

    def lpush(self, key: str, value: str) -> None:
        self.made += ["LPUSH", self._prefix + key, value]

    def rpush(self, key: str, value: str) -> None:
        self.made += ["RPUSH", self._prefix + key, value]


class _EndingTransactions:
    """A client of which kombu uses transactions only; they end when the connection is lost.

    redis-py's own start over at once, for ever, while it can connect to a server that refuses to write: it
    takes a lost connection for a change of the keys.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def transaction(self, do: Callable[[Any], object], *keys: str) -> None:
        """Watch keys, and do something in a pipeline until nobody else has changed them meanwhile."""
        with self._client.pipeline(True) as pipeline:
            while True:
                try:
                    pipeline.watch(*keys)
                    do(pipeline)
                    pipeline.execute()
                except WatchError as exc:
                    if isinstance(exc.__context__, RedisConnectionError | RedisTimeoutError):
                        raise exc.__context__ from None
                else:
                    return

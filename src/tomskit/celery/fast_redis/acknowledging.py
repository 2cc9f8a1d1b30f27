"""FastQoS: the acknowledgements of a turn, in one go."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from redis.exceptions import NoPermissionError
from typing_extensions import override

from tomskit.celery._internals.kombu_redis import (
    Client,
    Message,
    acknowledge_in_memory,
    record_in_memory,
)
from tomskit.celery._internals.redis_connections import Command
from tomskit.celery.fast_redis.conversation import Conversation, ConversingChannel, raise_error
from tomskit.celery.fast_redis.outstanding import KeepingChannel, KeepingQoS
from tomskit.celery.fast_redis.scripts import FORGET

__all__ = ("FastQoS", "TurnChannel")


class TurnChannel(KeepingChannel, ConversingChannel):
    """A channel whose messages are acknowledged by a `FastQoS`.

    Attributes:
        conversation: Exchanges the messages of this channel with Redis.
        recording: Whether a delivered message is still to be recorded in Redis.
    """

    conversation: Conversation
    recording: bool


class FastQoS(KeepingQoS):
    """Acknowledges, rejects and restores the messages of a turn of the worker in one go.

    Attributes:
        by_turn: Whether it may wait for the end of the turn, as where no task runs in the worker's
            turns. In a pool of threads that is where Celery acknowledges, too.
        at_once: How many messages are fetched together, at most.
    """

    by_turn: ClassVar[bool] = True
    at_once: ClassVar[int] = 100
    """More make a turn longer and save little: the cost of one call is shared by then."""

    if TYPE_CHECKING:
        channel: TurnChannel

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._acknowledged: list[str] = []
        self._restoring: list[Command] = []
        # What each answer that is to come confirms.
        self._sent: deque[list[Command]] = deque()
        super().__init__(*args, **kwargs)

    @override
    def append(self, message: Message, delivery_tag: str) -> None:
        if self.channel.recording:
            super().append(message, delivery_tag)
        else:
            record_in_memory(self, message, delivery_tag)

    @override
    def ack(self, delivery_tag: str) -> None:
        if not self.note(delivery_tag):
            super().ack(delivery_tag)

    def note(self, delivery_tag: str) -> bool:
        """Acknowledge a message at the end of the turn; False if that cannot wait so long."""
        if not self._waits_for_turn():
            return False
        self.channel.settling.discard(delivery_tag)
        self._acknowledged.append(delivery_tag)
        acknowledge_in_memory(self, delivery_tag)
        return True

    @override
    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not self._waits_for_turn():
            super().reject(delivery_tag, requeue)
            return
        self.channel.settling.discard(delivery_tag)
        if requeue:
            message = self._delivered.get(delivery_tag)
            # Of two messages with one tag the second one takes the place of the first.
            command = None if message is None else self.restoring(message, leftmost=True)
            self._restoring.extend([command] if command else [])
            # Redis does not announce what the same connection has changed.
            self.channel.conversation.wake()
        else:
            self._acknowledged.append(delivery_tag)
        acknowledge_in_memory(self, delivery_tag)

    def forget(self, raw: bytes) -> None:
        """Remove the record of a message that was not delivered."""
        keys = self.channel.unacked_keys
        command: Command = ("EVAL", FORGET, len(keys), *keys, raw)
        if self._waits_for_turn():
            self._restoring.append(command)
        else:
            self.execute([command])

    def _waits_for_turn(self) -> bool:
        channel = self.channel
        return (
            self.by_turn
            and not (channel.closed or channel.is_lost)
            and channel.conversation.thread == threading.get_ident()
        )

    def take_commands(self) -> list[Command]:
        """Take the commands that Redis has not been given yet."""
        commands, self._restoring = self._restoring, []
        tags, self._acknowledged = self._acknowledged, []
        if tags:
            records, times = self.channel.unacked_keys
            # In this order: kombu removes a time without a message when it meets one. A message
            # without a time would stay for ever.
            commands += [("HDEL", records, *tags), ("ZREM", times, *tags)]
        if commands:
            self._sent.append(commands)
        return commands

    def on_answer(self, answer: object) -> None:
        """The last command of `take_commands` was answered."""
        raise_error(answer)
        self._sent.popleft()

    @override
    def take_unconfirmed(self) -> list[Command]:
        self.take_commands()
        commands = [command for sent in self._sent for command in sent]
        self._sent.clear()
        return commands

    def finish(self) -> None:
        """Send all commands, and wait for their answers."""
        self.channel.conversation.finish()
        commands = self.take_unconfirmed()
        try:
            self.execute(commands)
        except self.channel.connection_errors:
            # For another try.
            self._sent.append(commands)
            raise

    def finish_anew(self) -> None:
        """Send on a new connection what the lost one may not have carried to Redis."""
        self.channel.conversation.forget_expected()
        self.finish()

    @override
    def restore_unacked(self, client: Client | None = None) -> None:
        # The last one first, so that they are delivered in their order again.
        messages = list(reversed(self._delivered.values()))
        commands = map(self.restoring, messages)
        try:
            self.execute_large((one for one in commands if one is not None), client)
        except NoPermissionError:
            # Without scripts, in kombu's way.
            super().restore_unacked(client)
        self._delivered.clear()

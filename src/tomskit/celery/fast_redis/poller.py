"""FastPoller: when channels write to Redis and read its answers."""

from __future__ import annotations

from queue import Empty

from typing_extensions import override

from tomskit.celery._internals.kombu_redis import MultiChannelPoller
from tomskit.celery.fast_redis.channel import FastChannel

__all__ = ("FastPoller",)


class FastPoller(MultiChannelPoller):
    """kombu's poller, for channels that need not wait with BRPOP."""

    @override
    def on_poll_start(self) -> None:
        super().on_poll_start()
        for channel in self._channels:
            # Also without a queue: tasks are acknowledged after the last queue was cancelled.
            if isinstance(channel, FastChannel) and channel.converses and self._is_open(channel):
                channel.conversation.turn()

    def _is_open(self, channel: FastChannel) -> bool:
        return self._client_registered(channel, channel.client, "BRPOP")

    @override
    def _register_BRPOP(self, channel: object) -> None:
        if not isinstance(channel, FastChannel) or not channel.converses:
            super()._register_BRPOP(channel)
            return
        if not self._is_open(channel):
            self._register(channel, channel.client, "BRPOP")
        channel.conversation.begin()
        if not channel.conversation.is_possible:
            super()._register_BRPOP(channel)

    @override
    def on_readable(self, fileno: int) -> object:
        channel, kind = self._fd_to_chan.get(fileno, (None, ""))
        if kind == "BRPOP" and isinstance(channel, FastChannel) and channel.converses:
            if not channel.conversation.read():
                raise Empty
            return True
        return super().on_readable(fileno)

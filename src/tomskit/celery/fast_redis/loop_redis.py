"""LoopRedis: a client of redis-py for plain functions in greenlets, which waits in the event loop."""

from __future__ import annotations

from typing import Any

import redis
from kombu.transport.redis import GlobalKeyPrefixMixin
from typing_extensions import override

from tomskit.celery._internals.redis_connections import Pipeline, is_transaction, parse
from tomskit.celery._running.greenlets import await_here
from tomskit.celery.fast_redis.batches import Batches

__all__ = ("LoopRedis", "loop_redis")


def loop_redis(pool: redis.ConnectionPool, batches: Batches, *, prefix: str = "") -> LoopRedis:
    """A client whose commands go with the others of the loop's turn.

    Args:
        pool: redis-py's. No connection of it is used, only its parameters.
        batches: What sends the commands.
        prefix: Of all keys, as kombu's ``global_keyprefix``.
    """
    client = (_PrefixedRedis if prefix else LoopRedis)(connection_pool=pool)
    client.batches = batches
    client.global_keyprefix = prefix
    return client


class LoopRedis(redis.Redis):
    """Used in greenlets that `tomskit.celery._running.greenlets` runs; made by `loop_redis`."""

    batches: Batches
    global_keyprefix: str

    @override
    def execute_command(self, *args: object, **options: Any) -> Any:
        [answer] = await_here(self.batches.run(args))
        if isinstance(answer, Exception):
            raise answer
        return parse(self, answer, args, options)

    @override
    def ping(self, **_: object) -> bool:
        # kombu asks whether the server is there. The first command finds that out as well.
        return True

    @override
    def pipeline(self, transaction: bool = True, shard_hint: object = None) -> Any:
        pipeline = _LoopPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipeline.batches = self.batches
        return pipeline


class _LoopPipeline(Pipeline):
    batches: Batches

    @override
    def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack = self.command_stack
        in_transaction = is_transaction(self)
        self.reset()
        if not stack:
            return []
        commands = [args for args, _ in stack]
        answers = await_here(self.batches.run(*commands, transaction=in_transaction))
        parsed: list[Any] = []
        for answer, (args, options) in zip(answers, stack, strict=True):
            if not isinstance(answer, Exception):
                parsed.append(parse(self, answer, args, options))
            elif raise_on_error:
                raise answer
            else:
                parsed.append(answer)
        return parsed


class _PrefixedRedis(GlobalKeyPrefixMixin, LoopRedis):
    @override
    def pipeline(self, transaction: bool = True, shard_hint: object = None) -> Any:
        pipeline = _PrefixedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipeline.batches = self.batches
        pipeline.global_keyprefix = self.global_keyprefix
        return pipeline


class _PrefixedPipeline(GlobalKeyPrefixMixin, _LoopPipeline):
    global_keyprefix: str

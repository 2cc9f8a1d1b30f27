"""Calls of a task with random changes, thrown at a worker in batches."""

import base64
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final

from celery import Celery
from kombu.utils.json import loads
from redis import Redis

from tests.support.hostile import call
from tests.support.patience import WaitedInVainError, wait_until
from tests.support.workers import Worker
from tomskit.celery.fast_redis.payloads import is_object

__all__ = ("Target", "attack", "mutant")

SEEN: Final = "seen"

_VALUES: Final[Sequence[Any]] = json.loads(
    r"""[null, true, false, 0, -1, 2.5, 1180591620717411303424, NaN, Infinity, "", "add", "x y",
    "\ud800", "\u0000\n\u001b[0m", "\u00e9\u2602", [], [1], [null, null], ["a", "b", "c"], [[]], {},
    {"a": 1}, {"task": "add"}, {"task": 5, "options": {}}, {"__type__": "uuid", "__value__": "x"}, [{}],
    [{"task": 5}], [{"task": "moon", "options": {}}]]"""
)
"""None of these is a time: a task for the far future would stay in the worker."""

_NAMES: Final = (
    *("args", "kwargs", "callbacks", "errbacks", "chain", "chord", "clock", "compression"),
    *("delivery_tag", "expires", "eta", "group_index", "ignore_result", "replaced_task_nesting"),
    *("stamps", "stamped_headers", "timelimit", "utc", "hostname", "is_eager", "priority"),
)


def mutant(random: Random) -> tuple[bytes, list[object] | None]:
    """A call ``add(1, 2)``, changed at random, and the arguments that it may run with, if any."""
    message = call(1, 2)
    body: Any = json.loads(base64.b64decode(message["body"]))
    whole: list[Any] = [message]
    for _ in range(random.randint(1, 3)):
        if random.random() < 0.4:
            inner = [body]
            _change(random, inner)
            [body] = inner
            message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
        else:
            _change(random, whole)
    raw = json.dumps(whole[0]).encode()
    if random.random() < 0.3:
        raw = _cut(random, raw)
    return raw, _arguments(raw)


def _change(random: Random, holder: list[Any]) -> None:
    """Change one place within what is held, at any depth."""
    place: Any = holder
    key: Any = 0
    while (keys := _keys(place[key])) and random.random() < 0.8:
        place = place[key]
        key = random.choice(keys)
    what = random.random()
    if what < 0.2 and place is not holder:
        del place[key]
    elif what < 0.4 and is_object(place):
        place[random.choice(_NAMES)] = deepcopy(random.choice(_VALUES))
    else:
        place[key] = deepcopy(random.choice(_VALUES))


def _keys(value: Any) -> list[Any]:
    """What the parts of a value are found by; none of a scalar."""
    if is_object(value):
        return list(value)
    return list(range(len(value))) if value.__class__ is list else []


def _cut(random: Random, raw: bytes) -> bytes:
    start = random.randrange(len(raw))
    end = min(len(raw), start + random.randint(0, 5))
    return raw[:start] + random.randbytes(random.randint(0, 3)) + raw[end:]


def _arguments(raw: bytes) -> list[object] | None:
    """The arguments that a message has, as a reader who forgives much would find them."""
    try:
        message = loads(raw.decode(errors="replace"))
        # Bytes, not text: kombu too skips what is no base64, bytes beyond ASCII included.
        body: Any = loads(base64.b64decode(message["body"].encode()))
        args: Any
        kwargs: Any
        if is_object(body):
            args, kwargs = body.get("args", []), body.get("kwargs", {})
        else:
            args, kwargs = body[:2]
        named: dict[str, object] = {**dict(zip(("left", "right"), args, strict=False)), **kwargs}
        return list(named.values()) if args.__class__ is list else None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Target:
    """A worker of ``tests.integration.hostile_service`` and the databases that it uses.

    Attributes:
        late: Arguments of the batch before. Its messages are acknowledged when their tasks begin, so
            some may run on.
    """

    worker: Worker
    client: Celery
    broker: Redis
    results: Redis
    late: list[list[object]] = field(default_factory=list[list[object]])


def attack(target: Target, messages: Sequence[tuple[bytes, list[object] | None]]) -> None:
    """Throw messages at the worker. It has to live, to settle each, and to run nothing else.

    Raises:
        AssertionError: It did not.
    """
    broker: Any = target.broker
    results: Any = target.results
    broker.lpush("celery", *(raw for raw, _ in messages))
    answer = target.client.send_task("add", (2, 3))

    wait_until(lambda: answer.ready() or not target.worker.running, 30.0, "a good task answers")
    assert target.worker.running, f"the worker has ended:\n{target.worker.text[-4000:]}"
    assert answer.get() == 5
    try:
        wait_until(lambda: not _left(broker), 10.0, "all messages are settled")
    except WaitedInVainError as exc:
        raise AssertionError(f"not settled: {_left(broker)}\n{target.worker.text}") from exc
    seen = [json.loads(arguments) for arguments in results.lrange(SEEN, 0, -1)]
    results.delete(SEEN)
    good: list[object] = [2, 3]
    sent = [good, *(arguments for _, arguments in messages if arguments is not None)]
    admitted = [*target.late, *sent]
    assert good in seen
    for arguments in seen:
        if arguments not in admitted:
            raws = [raw for raw, theirs in messages if theirs == arguments]
            what = f"more often than sent by {raws}" if raws else "which were not sent"
            log = "\n".join(target.worker.lines[-200:])
            raise AssertionError(f"ran with {arguments}, {what}\n{log}")
        admitted.remove(arguments)
    target.late[:] = [arguments for arguments in sent if arguments in admitted]


def _left(broker: Any) -> list[object]:
    """What is queued or not acknowledged."""
    read = partial(broker.execute_command, NEVER_DECODE=True)
    return [
        *read("LRANGE", "celery", 0, -1),
        *read("HVALS", "unacked"),
        *read("ZRANGE", "unacked_index", 0, -1),
    ]

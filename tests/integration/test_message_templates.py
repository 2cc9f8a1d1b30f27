"""Messages of calls without options are those that Celery makes, and only what may be is one of them.

They are read from Redis; there is no worker.
"""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, cast
from unittest.mock import patch

import pytest
from celery import Celery, Task, signals
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.exceptions import OperationalError
from redis import Redis

from tests.support.loops import run
from tests.support.patience import patience
from tests.support.servers import RedisServer
from tomskit.celery import AsyncCelery, TypedResult, async_shared_task

pytestmark = pytest.mark.usefixtures("clean_process")

Message = dict[str, Any]

_FIRST = 2
"""Calls until there is a template: the first declares the queue, the second is it."""


class _Redis(Protocol):
    """redis-py's client, as far as it is used here."""

    def keys(self) -> list[bytes]: ...
    def lrange(self, key: bytes, start: int, end: int) -> list[bytes]: ...
    def pubsub(self) -> _Events: ...
    def info(self, section: str) -> dict[str, dict[str, int]]: ...
    def config_set(self, name: str, value: str) -> object: ...
    def flushall(self) -> object: ...
    def client_kill_filter(self, *, _type: str, skipme: bool = True) -> int: ...


@dataclass
class Broker:
    """A broker that nobody listens to, and an app that sends to it."""

    server: RedisServer
    redis: _Redis
    app: AsyncCelery

    def taken(self) -> list[tuple[str, Message]]:
        """Each message and the list that it was in, the oldest first."""
        found: list[tuple[str, Message]] = []
        for key in sorted(self.redis.keys()):
            if b"_kombu" not in key:
                values = self.redis.lrange(key, 0, -1)
                found += [(key.decode(), json.loads(raw)) for raw in reversed(values)]
        self.redis.flushall()
        return found


@pytest.fixture
def broker(own: RedisServer, clean_process: None) -> Iterator[Broker]:
    url = f"redis://{own.host}:{own.port}/0"
    with (
        Redis(host=own.host, port=own.port) as redis,
        AsyncCelery("templates", broker=url, backend=url, set_as_current=False) as app,
    ):
        app.set_current()
        yield Broker(own, cast("_Redis", redis), app)


@async_shared_task
async def take(value: object, *more: object, named: object = None, **others: object) -> None:
    pass


@async_shared_task(queue="elsewhere", time_limit=7.0, ignore_result=True)
async def particular(value: object) -> None:
    pass


@async_shared_task(expires=60)
async def perishable() -> None:
    pass


async def first(send: Callable[[], Any]) -> None:
    """Send until there is a template."""
    for _ in range(_FIRST):
        await send()


def comparable(message: Message) -> Message:
    """A message without what differs from one call to the next."""
    headers, properties = message["headers"], message["properties"]
    assert headers["id"] == headers["root_id"] == properties["correlation_id"]
    return {
        **message,
        "headers": {**headers, "id": "", "root_id": ""},
        "properties": {**properties, "correlation_id": "", "delivery_tag": ""},
    }


def celery_has_sent(broker: Broker, send: Callable[[], Any], calls: int = 5) -> int:
    """How many of some calls Celery has sent; the others went in one command, all together."""
    commands: list[int] = []

    def note() -> None:
        stats = broker.redis.info("commandstats").get("cmdstat_lpush", {"calls": 0})
        commands.append(stats["calls"])

    async def main() -> None:
        await first(send)
        note()
        await asyncio.gather(*(send() for _ in range(calls)))
        note()

    run(main())
    assert len(broker.taken()) == _FIRST + calls
    before, after = commands
    return 0 if after - before == 1 else after - before


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    args=st.lists(VALUES, min_size=1, max_size=3),
    named=VALUES,
    others=st.dictionaries(st.text(), VALUES, max_size=2),
)
def test_message_is_the_one_that_celery_makes(
    broker: Broker, args: list[Any], named: object, others: dict[str, object]
) -> None:
    others = {f"x{name}": value for name, value in others.items()}

    async def main() -> None:
        await first(partial(take.adelay, 0))
        broker.redis.flushall()
        take.delay(*args, named=named, **others)
        await take.adelay(*args, named=named, **others)
        await take.aapply_async(tuple(args), {"named": named, **others})

    run(main())
    by_delay, *by_adelay = broker.taken()
    assert len(by_adelay) == 2
    for key, message in by_adelay:
        assert key == by_delay[0]
        assert json.dumps(comparable(message)) == json.dumps(comparable(by_delay[1]))
    assert len({message["properties"]["delivery_tag"] for _, message in by_adelay}) == 2


def test_options_of_the_task_are_in_it(broker: Broker) -> None:
    async def main() -> TypedResult[None]:
        await first(partial(particular.adelay, 1))
        broker.redis.flushall()
        particular.delay("%(id)s 100% \u20ac")
        return await particular.adelay("%(id)s 100% \u20ac")

    result = run(main())
    (key, by_delay), (other_key, by_adelay) = broker.taken()
    assert key == other_key == "elsewhere"
    assert comparable(by_adelay) == comparable(by_delay)
    assert by_adelay["headers"]["timelimit"] == [7.0, None]
    assert by_adelay["headers"]["id"] == result.id
    assert result.ignored


def test_long_arguments_are_shown_in_part(broker: Broker) -> None:
    async def main() -> None:
        await first(partial(take.adelay, 0))
        await take.adelay("long " * 1000)

    run(main())
    *_, (_, message) = broker.taken()
    assert len(message["headers"]["argsrepr"]) < 1100
    [[value], _, _] = json.loads(base64.b64decode(message["body"]))
    assert value == "long " * 1000


@pytest.mark.parametrize("serializer", ["json", "orjson", "pickle"])
def test_any_serializer_will_do(broker: Broker, serializer: str) -> None:
    broker.app.conf.task_serializer = serializer

    async def main() -> None:
        await first(partial(take.adelay, 0))
        await take.adelay(1, named=2)

    run(main())
    body = base64.b64decode(broker.taken()[-1][1]["body"])
    args, kwargs, _ = pickle.loads(body) if serializer == "pickle" else json.loads(body)
    assert (list(args), kwargs) == ([1], {"named": 2})


def test_many_of_a_turn_are_in_order(broker: Broker) -> None:
    async def main() -> None:
        await first(partial(take.adelay, -1))
        await asyncio.gather(*(take.adelay(number) for number in range(500)))

    run(main())
    bodies = [json.loads(base64.b64decode(message["body"])) for _, message in broker.taken()]
    assert [body[0][0] for body in bodies] == [*[-1] * _FIRST, *range(500)]


def test_templates_are_used(broker: Broker) -> None:
    assert celery_has_sent(broker, partial(take.adelay, 1)) == 0
    assert celery_has_sent(broker, partial(take.aapply_async, (1,))) == 0
    assert celery_has_sent(broker, partial(particular.adelay, 1)) == 0


def test_task_of_the_registry_takes_what_is_on_the_wire(broker: Broker) -> None:
    registered = cast("_Task", broker.app.tasks[take.name])

    async def main() -> None:
        for number in range(4):
            await registered.aapply_async((number,), {"named": None})
        await registered.aapply_async((4,), priority=3)

    run(main())
    sent = [message for _, message in broker.taken()]
    bodies = [json.loads(base64.b64decode(message["body"])) for message in sent]
    assert [body[0] for body in bodies] == [[0], [1], [2], [3], [4]]
    assert [message["properties"]["priority"] for message in sent] == [0, 0, 0, 0, 3]


# -- what may make another message of it


@pytest.mark.parametrize("method", ["delay", "apply_async"])
def test_replaced_method_catches_what_had_a_template(broker: Broker, method: str) -> None:
    async def main() -> None:
        await first(partial(take.adelay, 1))
        with patch.object(take, method, return_value="caught") as replaced:
            assert await cast("Callable[[int], Any]", take.adelay)(2) == "caught"
        replaced.assert_called_once()

    run(main())
    assert len(broker.taken()) == _FIRST


def test_calls_that_a_mock_caught_prevent_no_template(broker: Broker) -> None:
    number = count()

    async def send() -> None:
        if next(number) == 0:
            with patch.object(take, "apply_async"):
                for caught in range(5):
                    await take.adelay(caught)
        await take.adelay(1)

    assert celery_has_sent(broker, send) == 0


def test_override_on_the_registered_task_catches_what_had_a_template(broker: Broker) -> None:
    task = broker.app.tasks[take.name]
    own, seen = task.apply_async, list[object]()

    def override(*args: Any, **options: Any) -> object:
        seen.append(args)
        return own(*args, **options)

    async def main() -> None:
        await first(partial(take.adelay, 1))
        with patch.object(task, "apply_async", override):
            await take.adelay(2)
        await take.adelay(3)

    run(main())
    assert seen == [((2,), {})]
    assert len(broker.taken()) == _FIRST + 2


def test_message_that_depends_on_the_time_is_celerys(broker: Broker) -> None:
    assert celery_has_sent(broker, perishable.adelay) == 5


def test_compressed_message_is_celerys(broker: Broker) -> None:
    broker.app.conf.task_compression = "gzip"
    assert celery_has_sent(broker, partial(take.adelay, 1)) == 5


def test_routes_are_asked_for_each_message(broker: Broker) -> None:
    def route(name: str, args: tuple[object, ...], *_: object, **__: object) -> dict[str, str]:
        return {"queue": f"for_{args[0]}"}

    broker.app.conf.task_routes = (route,)

    async def main() -> None:
        for number in (1, 1, 1, 2, 3):
            await take.adelay(number)

    run(main())
    assert [key for key, _ in broker.taken()] == [*["for_1"] * 3, "for_2", "for_3"]


@pytest.mark.parametrize("name", ["before_task_publish", "after_task_publish"])
def test_signals_are_sent(broker: Broker, name: str) -> None:
    signal = cast("_Signal", getattr(signals, name))
    seen: list[str] = []

    def receive(sender: str, headers: Message, **_: object) -> None:
        seen.append(headers["id"])

    async def main() -> None:
        await first(partial(take.adelay, 1))
        signal.connect(receive)
        try:
            await take.adelay(2)
        finally:
            signal.disconnect(receive)
        await take.adelay(3)

    run(main())
    assert seen == [broker.taken()[_FIRST][1]["headers"]["id"]]


def test_sent_events_are_sent(broker: Broker) -> None:
    async def main() -> None:
        await first(partial(take.adelay, 1))
        broker.app.conf.task_send_sent_event = True

    run(main())
    broker.taken()
    with Redis(host=broker.server.host, port=broker.server.port) as redis:
        events = cast("_Redis", redis).pubsub()
        events.psubscribe("*celeryev*")
        events.get_message(timeout=patience(5))
        assert celery_has_sent(broker, partial(take.adelay, 1)) == 5
        heard = [events.get_message(timeout=patience(5)) for _ in range(_FIRST + 5)]
        events.close()
    assert all(event is not None and b"task.sent" in event["channel"] for event in heard)


def test_changed_setting_takes_effect(broker: Broker) -> None:
    async def main() -> None:
        await first(partial(take.adelay, 1))
        await take.adelay(1)
        broker.app.conf.task_default_queue = "other"
        for number in range(4):
            await take.adelay(number)

    run(main())
    assert [key for key, _ in broker.taken()] == [*["celery"] * 3, *["other"] * 4]


def test_ignored_results_may_be_wanted_again(broker: Broker) -> None:
    async def main() -> list[bool]:
        await first(partial(take.adelay, 1))
        kept = await take.adelay(1)
        with patch.object(broker.app.tasks[take.name], "ignore_result", new=True):
            dropped = await take.adelay(1)
        again = await take.adelay(1)
        return [kept.ignored, dropped.ignored, again.ignored]

    assert run(main()) == [False, True, False]
    sent = [message["headers"]["ignore_result"] for _, message in broker.taken()]
    assert sent == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Task, "apply_async"), (Celery, "send_task")],
    ids=["Task.apply_async", "Celery.send_task"],
)
def test_what_is_put_in_the_place_of_celerys_methods_is_called(
    broker: Broker, owner: type, name: str
) -> None:
    theirs = cast("Callable[..., object]", getattr(owner, name))
    traced: list[str] = []

    def trace(*args: object, **kwargs: object) -> object:
        traced.append(name)
        return theirs(*args, **kwargs)

    async def main() -> None:
        await first(partial(take.adelay, 1))
        await take.adelay(1)
        with patch.object(owner, name, trace):
            for _ in range(5):
                await take.adelay(1)
        await take.adelay(1)

    run(main())
    assert len(traced) == 5
    assert len(broker.taken()) == _FIRST + 7


# -- errors


def test_lost_connection_is_made_again(broker: Broker) -> None:
    async def main() -> None:
        await first(partial(take.adelay, 1))
        broker.redis.client_kill_filter(_type="normal")
        await take.adelay(2)

    run(main())
    assert len(broker.taken()) == _FIRST + 1


@pytest.mark.parametrize("retry", [True, False])
def test_broker_that_stays_away_is_told_of(broker: Broker, retry: bool) -> None:
    with RedisServer() as away:
        url = f"redis://{away.host}:{away.port}/0"
        with AsyncCelery("away", broker=url, set_as_current=False) as app:
            app.conf.task_publish_retry = retry
            app.conf.task_publish_retry_policy = {"max_retries": 2, "interval_start": 0.01}
            app.set_current()

            async def main() -> None:
                await first(partial(take.adelay, 1))
                away.stop()
                with pytest.raises(OperationalError):
                    await take.adelay(1)
                if retry:
                    app.conf.task_publish_retry_policy.update(max_retries=None, interval_max=0.1)
                    sending = asyncio.ensure_future(take.adelay(2))
                    await asyncio.sleep(0.1)
                    assert not sending.done()
                    away.start()
                    result = await sending
                    with Redis(host=away.host, port=away.port) as redis:
                        [sent] = cast("_Redis", redis).lrange(b"celery", 0, -1)
                    assert json.loads(sent)["headers"]["id"] == result.id

            run(main())


def test_full_redis_is_told_of(broker: Broker) -> None:
    async def main() -> None:
        await first(partial(take.adelay, 1))
        with Redis(host=broker.server.host, port=broker.server.port) as redis:
            configure = cast("_Redis", redis).config_set
            configure("maxmemory", "1")
            try:
                with pytest.raises(Exception, match="maxmemory"):
                    await take.adelay(1)
            finally:
                configure("maxmemory", "0")
        await take.adelay(2)

    run(main())
    assert len(broker.taken()) == _FIRST + 1


def test_arguments_that_cannot_be_sent_are_told_of(broker: Broker) -> None:
    async def main() -> None:
        await first(partial(take.adelay, 1))
        with pytest.raises(Exception, match="cannot be sent"):
            await take.adelay(object())

    run(main())


if TYPE_CHECKING:

    class _Events(Protocol):
        def psubscribe(self, pattern: str) -> object: ...
        def close(self) -> None: ...
        def get_message(self, *, timeout: float) -> dict[str, bytes] | None: ...

    class _Task(Protocol):
        async def aapply_async(
            self, args: tuple[object, ...], kwargs: object = None, **options: object
        ) -> object: ...

    class _Signal(Protocol):
        def connect(self, receiver: Callable[..., None], /) -> object: ...
        def disconnect(self, receiver: Callable[..., None], /) -> object: ...

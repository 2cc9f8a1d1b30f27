"""Templates: which messages of a task are like each other, and how one is filled in."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from celery import Task, signals
from celery.result import AsyncResult
from kombu.transport.memory import Channel
from kombu.utils.json import dumps

from tests.support.settings import MakeApp
from tomskit.celery import AsyncCelery
from tomskit.celery._client.publishing import LoopProducer
from tomskit.celery._client.templates import Templates, Wire
from tomskit.celery.fast_redis.batches import Command

WIRE: Wire = ((1, "two"), {"three": [3.5, None]})
OTHER: Wire = (("%s %(x)s \u2603",), {})


class Producer:
    """Keeps what it is to put into a list."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, bytes]] = []

    async def push(self, key: str, value: bytes) -> None:
        self.pushed.append((key, value))


@pytest.fixture
def app(make_app: MakeApp) -> AsyncCelery:
    return make_app(broker="memory://", backend="cache+memory://")


def register(app: AsyncCelery, function: Callable[..., None], **options: Any) -> Task[..., Any]:
    # Not what the decorator returns: that stands for the task.
    app.task(**options)(function)
    return cast("Task[..., Any]", app.tasks[options["name"]])


@pytest.fixture
def task(app: AsyncCelery) -> Task[..., Any]:
    def work(*args: object, **kwargs: object) -> None:
        pytest.fail("it is only sent")

    return register(app, work, name="work")


@pytest.fixture
def producer() -> Producer:
    return Producer()


@pytest.fixture
def templates(app: AsyncCelery, producer: Producer) -> Templates:
    return Templates(app, cast("LoopProducer", producer))


@pytest.fixture(autouse=True)
def empty_queues() -> Iterator[None]:
    # They are the process's, and other tests send tasks as well.
    cast("Any", Channel).queues.clear()
    yield
    cast("Any", Channel).queues.clear()


def send_as_celery(task: Task[..., Any], wire: Wire) -> tuple[AsyncResult[Any], Command]:
    """Send a call to kombu's broker in memory, and what Redis would have been told."""
    result = task.apply_async(tuple(wire[0]), dict(wire[1]))
    message: object = cast("Any", Channel).queues["celery"].get(timeout=60)
    return result, ("LPUSH", "celery", dumps(message))


def learn(templates: Templates, task: Task[..., Any], wire: Wire = WIRE) -> None:
    result, command = send_as_celery(task, wire)
    templates.learn(task, wire, result.id, [command])


# -- learning


def test_what_celery_has_sent_is_a_template(templates: Templates, task: Task[..., Any]) -> None:
    assert not templates.has(task)
    assert templates.may_learn(task)

    learn(templates, task)

    assert templates.has(task)


@pytest.mark.parametrize("wire", [WIRE, OTHER])
def test_a_template_makes_the_message_that_celery_would_make(
    templates: Templates, task: Task[..., Any], producer: Producer, wire: Wire
) -> None:
    assert templates.may_learn(task)
    learn(templates, task)

    result = asyncio.run(templates.send(task, wire))

    [(key, sent)] = producer.pushed
    mine, celerys = json.loads(sent), json.loads(str(send_as_celery(task, wire)[1][2]))
    assert key == "celery"
    assert mine["headers"]["id"] == mine["properties"]["correlation_id"] == result.id
    assert json.loads(base64.b64decode(mine["body"]))[:2] == [list(wire[0]), wire[1]]
    for message in (mine, celerys):
        # These are new for each message.
        for name in ("id", "root_id"):
            del message["headers"][name]
        for name in ("correlation_id", "delivery_tag"):
            del message["properties"][name]
    assert mine == celerys


def test_each_message_has_ids_of_its_own(
    templates: Templates, task: Task[..., Any], producer: Producer
) -> None:
    assert templates.may_learn(task)
    learn(templates, task)

    async def send() -> set[str]:
        return {(await templates.send(task, WIRE)).id for _ in range(3)}

    assert len(asyncio.run(send())) == 3
    tags = {json.loads(sent)["properties"]["delivery_tag"] for _, sent in producer.pushed}
    assert len(tags) == 3


def test_a_result_that_is_ignored_is_so(
    app: AsyncCelery, templates: Templates, producer: Producer
) -> None:
    def ignoring() -> None:
        pytest.fail("it is only sent")

    task = register(app, ignoring, name="ignoring", ignore_result=True)
    assert templates.may_learn(task)
    learn(templates, task, ((), {}))

    assert asyncio.run(templates.send(task, ((), {}))).ignored


def test_a_message_that_is_not_the_only_one_is_no_template(
    templates: Templates, task: Task[..., Any]
) -> None:
    result, command = send_as_celery(task, WIRE)
    assert templates.may_learn(task)

    templates.learn(task, WIRE, result.id, [("SADD", "bindings", "x"), command])

    assert not templates.has(task)


def test_a_message_of_other_arguments_is_no_template(
    templates: Templates, task: Task[..., Any]
) -> None:
    result, command = send_as_celery(task, WIRE)
    assert templates.may_learn(task)

    templates.learn(task, OTHER, result.id, [command])

    assert not templates.has(task)


def test_a_task_that_expires_has_no_template(app: AsyncCelery, templates: Templates) -> None:
    def expiring() -> None:
        pytest.fail("it is only sent")

    task = register(app, expiring, name="expiring", expires=60)
    assert templates.may_learn(task)

    learn(templates, task, ((), {}))

    assert not templates.has(task)


def test_after_some_failures_it_is_not_tried_again(
    templates: Templates, task: Task[..., Any]
) -> None:
    assert templates.may_learn(task)
    for _ in range(3):
        assert templates.may_learn(task)
        templates.learn(task, WIRE, "id", [])

    assert not templates.may_learn(task)
    learn(templates, task)
    assert not templates.has(task)


def test_the_first_template_stays(
    templates: Templates, task: Task[..., Any], producer: Producer
) -> None:
    assert templates.may_learn(task)
    learn(templates, task)

    templates.learn(task, WIRE, "id", [])

    assert templates.has(task)
    assert templates.may_learn(task)


# -- what could make another message


@pytest.mark.parametrize(
    "signal", [signals.before_task_publish, signals.after_task_publish, signals.task_sent]
)
def test_nothing_is_learnt_or_used_while_somebody_looks_at_messages(
    templates: Templates, task: Task[..., Any], signal: Any
) -> None:
    assert templates.may_learn(task)
    learn(templates, task)

    def look(**_: object) -> None:
        pass

    signal.connect(look)
    try:
        assert not templates.has(task)
        assert not templates.may_learn(task)
    finally:
        signal.disconnect(look)
    assert templates.has(task)


@pytest.mark.parametrize("name", ["delay", "apply_async", "shadow_name", "AsyncResult"])
def test_nothing_is_learnt_or_used_of_a_task_with_a_replaced_method(
    templates: Templates, task: Task[..., Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert templates.may_learn(task)
    learn(templates, task)

    monkeypatch.setattr(task, name, empty_queues)

    assert not templates.has(task)
    assert not templates.may_learn(task)


@pytest.mark.parametrize("name", ["apply_async", "shadow_name"])
def test_a_template_is_not_used_when_a_library_has_replaced_what_makes_messages(
    templates: Templates, task: Task[..., Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert templates.may_learn(task)
    learn(templates, task)
    original: Callable[..., object] = getattr(Task, name)

    def traced(*args: Any, **kwargs: Any) -> object:
        return original(*args, **kwargs)

    monkeypatch.setattr(Task, name, traced)

    assert not templates.has(task)


def test_a_template_is_not_used_for_another_task_of_the_name(
    app: AsyncCelery, templates: Templates, task: Task[..., Any]
) -> None:
    assert templates.may_learn(task)
    learn(templates, task)
    del app.tasks["work"]

    def again() -> None:
        pytest.fail("it is only sent")

    other = register(app, again, name="work")

    assert not templates.has(other)


def test_a_template_is_not_used_when_results_are_ignored_from_now_on(
    templates: Templates, task: Task[..., Any]
) -> None:
    assert templates.may_learn(task)
    learn(templates, task)

    task.ignore_result = True

    assert not templates.has(task)


def test_changed_settings_make_it_forget(
    app: AsyncCelery, templates: Templates, task: Task[..., Any]
) -> None:
    assert templates.may_learn(task)
    learn(templates, task)

    app.conf.task_default_queue = "other"

    assert not templates.has(task)
    assert templates.may_learn(task)
    assert not templates.has(task)


@pytest.mark.parametrize(
    "settings",
    [
        {"task_protocol": 1},
        {"task_send_sent_event": True},
        {"task_routes": {"work": {"queue": "slow"}}},
    ],
)
def test_with_such_settings_nothing_is_learnt(
    make_app: MakeApp, producer: Producer, settings: dict[str, object]
) -> None:
    app = make_app(broker="memory://", backend="cache+memory://", **settings)

    def work() -> None:
        pytest.fail("it is only sent")

    task = register(app, work, name="work")

    assert not Templates(app, cast("LoopProducer", producer)).may_learn(task)


def test_within_a_task_nothing_is_learnt_or_used(
    app: AsyncCelery, templates: Templates, task: Task[..., Any]
) -> None:
    assert templates.may_learn(task)
    learn(templates, task)

    def parent() -> list[bool]:
        return [templates.has(task), templates.may_learn(task)]

    outer = cast("Any", app.task(name="parent")(parent))

    # Its messages name the task that has sent them.
    assert outer.apply().get(disable_sync_subtasks=False) == [False, False]
    assert templates.has(task)

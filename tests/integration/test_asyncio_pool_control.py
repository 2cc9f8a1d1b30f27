"""What is told and asked of an asyncio pool: states, events, signals, inspection, its size."""

import re
from collections.abc import Callable
from typing import cast

import pytest
from celery import states

from tests.support.asyncio_pool import SERVICE, WIDE, occupied, send, start
from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.remote import (
    Events,
    answers,
    control,
    events_of,
    fresh_key,
    inspect,
    lines_about,
    pool_of,
    release,
    signals_of,
    started,
)
from tests.support.workers import Worker

# -- what others see of a task


def test_started_task_tells_where_it_runs(wide: Deployment) -> None:
    assert wide.running is not None

    with occupied(wide) as sent:
        meta = cast("dict[str, object]", sent.info)

    assert meta == {"pid": wide.running.pid, "hostname": wide.running.hostname}


@pytest.mark.parametrize(
    ("task", "args", "types"),
    [
        ("add", (2, 3), ["received", "started", "succeeded"]),
        ("fail", ("no",), ["received", "started", "failed"]),
        (
            "retry_until",
            (1,),
            ["received", "started", "retried", "received", "started", "succeeded"],
        ),
    ],
)
def test_events_tell_what_becomes_of_a_task(
    wide: Deployment,
    wide_events: Events,
    task: str,
    args: tuple[object, ...],
    types: list[str],
) -> None:
    sent = send(wide, task, *args)

    eventually(lambda: len(events_of(wide_events, sent)) >= len(types))
    # A message may be taken before the worker hears how the task that has sent it has ended.
    assert sorted(events_of(wide_events, sent)) == sorted(f"task-{kind}" for kind in types)


@pytest.mark.parametrize("limit", ["soft", "hard"])
def test_event_tells_of_a_time_limit(wide: Deployment, wide_events: Events, limit: str) -> None:
    options = {"soft_time_limit" if limit == "soft" else "time_limit": 0.3}

    sent = send(wide, "sleep", 3600, **options)

    eventually(lambda: "task-failed" in events_of(wide_events, sent))
    assert events_of(wide_events, sent) == ["task-received", "task-started", "task-failed"]


def test_running_task_is_listed_with_its_arguments(wide: Deployment) -> None:
    with occupied(wide) as sent:
        listed = cast("list[dict[str, object]]", answers(inspect(wide).active()))

    assert sent.id in [entry["id"] for entry in listed]


def test_task_that_waits_for_a_slot_is_listed_as_reserved(narrow: Deployment) -> None:
    with occupied(narrow) as running:
        sent = send(narrow, "add", 1, 2)
        eventually(lambda: pool_of(narrow)["waiting"] == 1)
        reserved = cast("list[dict[str, object]]", answers(inspect(narrow).reserved()))
        active = cast("list[dict[str, object]]", answers(inspect(narrow).active()))

    assert [entry["id"] for entry in reserved] == [sent.id]
    assert [entry["id"] for entry in active] == [running.id]
    assert sent.get(timeout=TIMEOUT) == 3


def test_task_with_an_eta_is_listed_as_scheduled(wide: Deployment) -> None:
    sent = send(wide, "now", countdown=3600)

    def scheduled() -> list[str]:
        listed = cast("list[dict[str, dict[str, str]]]", answers(inspect(wide).scheduled()))
        return [entry["request"]["id"] for entry in listed]

    eventually(lambda: sent.id in scheduled())
    control(wide, "revoke", task_id=sent.id)


def test_task_is_found_by_its_id(wide: Deployment) -> None:
    query = cast("Callable[..., dict[str, dict[str, list[object]]]]", inspect(wide).query_task)

    with occupied(wide) as sent:
        [found] = query(sent.id).values()

    assert found[sent.id][0] == "active"


def test_stats_tell_of_the_pool(wide: Deployment) -> None:
    assert wide.running is not None

    with occupied(wide):
        pool = pool_of(wide)

    assert pool["max-concurrency"] == WIDE
    assert pool["processes"] == [wide.running.pid]
    assert cast("int", pool["running"]) >= 1


# -- the pool's size


def test_pool_grows_and_shrinks_by_remote_control(deployment: Deployment) -> None:
    start(deployment, 1)
    first, then = fresh_key(), fresh_key()
    sent = [send(deployment, "wait_for", first) for _ in range(4)]
    eventually(lambda: (pool_of(deployment)["running"], pool_of(deployment)["waiting"]) == (1, 3))

    control(deployment, "pool_grow", n=2)

    eventually(lambda: (pool_of(deployment)["running"], pool_of(deployment)["waiting"]) == (3, 1))
    assert pool_of(deployment)["max-concurrency"] == 3

    control(deployment, "pool_shrink", n=1)

    assert pool_of(deployment)["max-concurrency"] == 2
    assert pool_of(deployment)["running"] == 3
    release(deployment, first)
    assert [result.get(timeout=TIMEOUT) for result in sent] == ["released"] * 4
    sent = [send(deployment, "wait_for", then) for _ in range(3)]
    eventually(lambda: (pool_of(deployment)["running"], pool_of(deployment)["waiting"]) == (2, 1))
    release(deployment, then)
    assert [result.get(timeout=TIMEOUT) for result in sent] == ["released"] * 3


@pytest.mark.parametrize(("bounds", "least"), [("10,2", 2), ("10,1", 1)])
def test_pool_scales_by_itself(deployment: Deployment, bounds: str, least: int) -> None:
    start(deployment, 2, f"--autoscale={bounds}", AUTOSCALE_KEEPALIVE="0.3")
    assert pool_of(deployment)["max-concurrency"] == least
    key = fresh_key()

    sent = [send(deployment, "wait_for", key) for _ in range(12)]

    eventually(lambda: (pool_of(deployment)["running"], pool_of(deployment)["waiting"]) == (10, 2))
    release(deployment, key)
    assert [result.get(timeout=TIMEOUT) for result in sent] == ["released"] * 12
    eventually(lambda: pool_of(deployment)["max-concurrency"] == least)


def test_pool_that_scales_from_nothing_runs_tasks(deployment: Deployment) -> None:
    start(deployment, 2, "--autoscale=10")
    key = fresh_key()

    sent = [send(deployment, "wait_for", key) for _ in range(3)]

    eventually(lambda: pool_of(deployment)["running"] == 3)
    release(deployment, key)
    assert [result.get(timeout=TIMEOUT) for result in sent] == ["released"] * 3


# -- signals


def test_signals_of_a_task_that_succeeds(wide: Deployment) -> None:
    sent = send(wide, "add", 2, 3)

    sent.get(timeout=TIMEOUT)

    wide.wait_for_line(rf"signal task_postrun\(SUCCESS\) of {sent.id}")
    assert signals_of(wide, sent) == ["task_prerun", "task_success", "task_postrun(SUCCESS)"]


def test_signals_of_a_task_that_fails(wide: Deployment) -> None:
    sent = send(wide, "fail", "no")

    wide.wait_for_line(rf"signal task_postrun\(FAILURE\) of {sent.id}")

    assert signals_of(wide, sent) == [
        "task_prerun",
        "task_failure(ValueError)",
        "task_postrun(FAILURE)",
    ]


def test_signals_of_a_task_that_is_retried(wide: Deployment) -> None:
    sent = send(wide, "retry_until", 1)

    # The two runs may overlap, and either may be the last one to end.
    for last in (states.RETRY, states.SUCCESS):
        wide.wait_for_line(rf"signal task_postrun\({last}\) of {sent.id}")
    assert sorted(signals_of(wide, sent)) == [
        *("task_postrun(RETRY)", "task_postrun(SUCCESS)"),
        *("task_prerun", "task_prerun"),
        *("task_retry", "task_success"),
    ]


def test_signals_of_a_task_that_is_terminated(wide: Deployment) -> None:
    key = fresh_key()
    sent = started(send(wide, "clean_up", key))

    control(wide, "revoke", task_id=sent.id, terminate=True)

    eventually(lambda: wide.key(key) == "cleaned up")
    eventually(lambda: len(signals_of(wide, sent)) >= 3)
    assert signals_of(wide, sent)[:2] == ["task_prerun", "task_revoked(terminated=True)"]
    assert re.fullmatch(r"task_postrun\(.*\)", signals_of(wide, sent)[-1])
    assert len(signals_of(wide, sent)) == 3


@pytest.mark.parametrize(
    ("task", "args"), [("add", (1, 2)), ("fail", ("no",)), ("plain_add", (1, 2))]
)
def test_current_task_is_right_in_handlers_of_signals(
    wide: Deployment, task: str, args: tuple[object, ...]
) -> None:
    sent = send(wide, task, *args)

    wide.wait_for_line(rf"signal task_postrun\(\w+\) of {sent.id}")

    current = lines_about(wide, sent, rf"signal \S+ of {sent.id}, current (\S+)")
    assert current == [sent.id] * 3


def test_signals_of_a_process_are_sent_once(deployment: Deployment) -> None:
    worker: Worker = deployment.worker("asyncio", 2, module=SERVICE, LOG_SIGNALS="yes")
    ready = worker.text

    assert worker.stop() == 0

    assert ready.count("signal worker_process_init") == 1
    assert "signal worker_process_shutdown" not in ready
    assert worker.text.count("signal worker_process_shutdown") == 1

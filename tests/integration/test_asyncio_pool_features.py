"""Every feature of Celery's under the asyncio pool."""

import json
import re
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from celery import Signature, chain, chord, group, signature, states
from celery.exceptions import (
    ChordError,
    Reject,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
)
from celery.result import AsyncResult

from tests.integration.conftest import TIMEOUT, Deployment, deploy, eventually
from tests.integration.test_celery_features import (
    answers,
    control,
    fresh_key,
    inspect,
    received_events,
    release,
    state,
)
from tests.support.patience import slowed
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Worker

SERVICE = "tests.integration.asyncio_service"
WIDE = 200

Result = AsyncResult[object]


def start(
    deployment: Deployment, concurrency: int, *extra_args: str, **environment: str
) -> Deployment:
    """Start the worker of a deployment."""
    deployment.running = deployment.worker(
        "asyncio", concurrency, *extra_args, module=SERVICE, environment=environment
    )
    return deployment


@pytest.fixture(scope="module")
def wide(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    """A worker with room for many tasks, which the tests leave as it is."""
    with deploy(redis_server, mariadb_server) as fresh:
        yield start(fresh, WIDE, "--task-events", LOG_SIGNALS="yes")


@pytest.fixture(scope="module")
def narrow(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    """A worker that runs one task at a time, which the tests leave as it is."""
    with deploy(redis_server, mariadb_server) as fresh:
        yield start(fresh, 1, "--task-events", LOG_SIGNALS="yes")


Events = list[dict[str, object]]


@pytest.fixture(scope="module")
def wide_events(wide: Deployment) -> Iterator[Events]:
    """The events that the worker sends, none of which is missed."""
    with monitor(wide) as seen:
        yield seen


@pytest.fixture(scope="module")
def narrow_events(narrow: Deployment) -> Iterator[Events]:
    """The events that the worker sends, none of which is missed."""
    with monitor(narrow) as seen:
        yield seen


@contextmanager
def monitor(deployment: Deployment) -> Generator[Events]:
    with received_events(deployment) as seen:

        def listening() -> bool:
            deployment.client.control.heartbeat()
            return bool(seen)

        eventually(listening)
        yield seen


def events_of(seen: Events, sent: Result) -> list[str]:
    return [str(event["type"]) for event in seen if event.get("uuid") == sent.id]


def send(deployment: Deployment, task: str, *args: object, **options: object) -> Result:
    return deployment.send(f"{SERVICE}.{task}", *args, **options)


def call(deployment: Deployment, task: str, *args: object, **options: object) -> object:
    return send(deployment, task, *args, **options).get(timeout=TIMEOUT)


def sig(
    deployment: Deployment, task: str, *args: object, immutable: bool = False
) -> Signature[object]:
    return signature(f"{SERVICE}.{task}", args=args, app=deployment.client, immutable=immutable)


def started(sent: Result) -> Result:
    """Wait until a task runs."""
    eventually(lambda: state(sent) == states.STARTED)
    return sent


@contextmanager
def occupied(deployment: Deployment) -> Generator[Result]:
    """A task runs meanwhile, and ends with it."""
    key = fresh_key()
    running = started(send(deployment, "wait_for", key))
    try:
        yield running
    finally:
        release(deployment, key)
        assert running.get(timeout=TIMEOUT) == "released"


def pool_of(deployment: Deployment) -> dict[str, object]:
    """What `inspect stats` tells of the pool."""
    answers = cast("dict[str, dict[str, dict[str, object]]]", inspect(deployment).stats())
    [stats] = answers.values()
    return stats["pool"]


def is_idle(deployment: Deployment) -> bool:
    pool = pool_of(deployment)
    return pool["running"] == pool["waiting"] == 0


def lines_about(deployment: Deployment, sent: Result, pattern: str) -> list[str]:
    """What the lines of the log that name a task have in place of the pattern's group."""
    found = [re.search(pattern, line) for line in deployment.log.splitlines() if sent.id in line]
    return [match[1] for match in found if match is not None]


def signals_of(deployment: Deployment, sent: Result) -> list[str]:
    """The signals that were sent for a task, in their order."""
    return lines_about(deployment, sent, rf"signal (\S+) of {sent.id}")


def list_of(deployment: Deployment, key: str) -> list[str]:
    with deployment.redis.client(deployment.redis_db.result_db) as client:
        return cast("list[str]", client.lrange(key, 0, -1))


def unacked(deployment: Deployment, sent: Result) -> bool:
    """Whether the broker would deliver the task again, should the worker die."""
    with deployment.redis.client(deployment.redis_db.broker_db) as client:
        values = cast("list[str]", client.hvals("unacked"))
    messages = [json.loads(value)[0] for value in values]
    return sent.id in [message["headers"]["id"] for message in messages]


# -- retries


def test_retry_sends_the_task_again(wide: Deployment) -> None:
    sent = send(wide, "retry_until", 2)

    assert sent.get(timeout=TIMEOUT) == [sent.id, 2]


def test_autoretry_retries_until_it_works(wide: Deployment) -> None:
    assert call(wide, "autoretry", 2) == 2


def test_autoretry_ends_with_the_error(wide: Deployment) -> None:
    with pytest.raises(KeyError):
        call(wide, "autoretry", 10)


# -- workflows


def test_chain_passes_results_on(wide: Deployment) -> None:
    result = chain(sig(wide, "add", 1, 2), sig(wide, "add", 3), sig(wide, "add", 4)).apply_async()

    assert result.get(timeout=TIMEOUT) == 10


def test_group_collects_results(wide: Deployment) -> None:
    result = group(sig(wide, "add", number, 1) for number in range(20)).apply_async()

    assert result.get(timeout=TIMEOUT) == list(range(1, 21))


def test_chord_of_a_hundred_tasks_calls_its_body_once(wide: Deployment) -> None:
    header = [sig(wide, "add", number, 0) for number in range(100)]

    result = chord(header)(sig(wide, "total"))

    assert result.get(timeout=TIMEOUT) == sum(range(100))


def test_chord_whose_header_fails_fails(wide: Deployment) -> None:
    result = chord([sig(wide, "add", 1, 1), sig(wide, "fail", "no")])(sig(wide, "total"))

    error = result.get(timeout=TIMEOUT, propagate=False)
    assert isinstance(error, ChordError)
    assert "ValueError('no')" in str(error)


def test_chord_whose_header_is_ended_by_a_hard_limit_fails(wide: Deployment) -> None:
    cut = signature(f"{SERVICE}.sleep", args=(3600,), options={"time_limit": 0.3}, app=wide.client)

    result = chord([sig(wide, "add", 1, 1), cut])(sig(wide, "total"))

    error = result.get(timeout=TIMEOUT, propagate=False)
    assert isinstance(error, ChordError)
    assert "TimeLimitExceeded" in str(error)


def test_task_replaces_itself(wide: Deployment) -> None:
    assert call(wide, "replace", 6) == 7


def test_link_is_called_with_the_result(wide: Deployment) -> None:
    key = fresh_key()

    call(wide, "add", 2, 3, link=sig(wide, "append", key, "linked", immutable=True))

    eventually(lambda: list_of(wide, key) == ["linked"])


def test_link_error_is_called_with_the_id_of_the_task_that_failed(wide: Deployment) -> None:
    key = fresh_key()

    sent = send(wide, "fail", "no", link_error=sig(wide, "remember", key))

    eventually(lambda: wide.key(key) == sent.id)


@pytest.mark.parametrize("how", ["raises", "hard limit"])
def test_link_error_that_takes_the_error_is_called_with_it(wide: Deployment, how: str) -> None:
    key = fresh_key()
    errback = signature(f"{SERVICE}.remember_error", kwargs={"key": key}, app=wide.client)

    if how == "raises":
        sent, error = send(wide, "fail", "no", link_error=errback), "ValueError"
    else:
        sent = send(wide, "sleep", 3600, link_error=errback, time_limit=0.3)
        error = "TimeLimitExceeded"

    eventually(lambda: wide.key(key) == f"{sent.id} {error}")


# -- when a task runs


def test_countdown_passes_before_the_task_runs(wide: Deployment) -> None:
    sent_at = time.time()

    assert cast("float", call(wide, "now", countdown=0.4)) >= sent_at + 0.4


def test_task_runs_no_earlier_than_its_eta(wide: Deployment) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=0.4)

    assert cast("float", call(wide, "now", eta=eta)) >= eta.timestamp()


def test_tasks_of_a_limited_rate_do_not_start_together(wide: Deployment) -> None:
    sent = [send(wide, "two_a_second") for _ in range(3)]
    starts = sorted(cast("float", result.get(timeout=TIMEOUT)) for result in sent)

    # Half a second, of which a start that was late itself takes something.
    assert starts[1] - starts[0] > 0.1
    assert starts[2] - starts[1] > 0.1


def test_rate_limit_can_be_changed_by_remote_control(wide: Deployment) -> None:
    control(wide, "rate_limit", task_name=f"{SERVICE}.one_an_hour", rate_limit="1000/s")

    sent = [send(wide, "one_an_hour", number) for number in range(5)]

    assert [result.get(timeout=TIMEOUT) for result in sent] == [0, 1, 2, 3, 4]


def test_expired_task_is_not_run(wide: Deployment) -> None:
    key = fresh_key()

    sent = send(wide, "append", key, "ran", expires=-1)

    with pytest.raises(TaskRevokedError):
        sent.get(timeout=TIMEOUT)
    assert list_of(wide, key) == []
    assert signals_of(wide, sent) == ["task_revoked(terminated=False)"]


def test_task_that_expires_while_it_waits_for_a_slot_is_not_run(narrow: Deployment) -> None:
    key = fresh_key()
    with occupied(narrow):
        sent = send(narrow, "append", key, "ran", expires=slowed(0.5))
        eventually(lambda: pool_of(narrow)["waiting"] == 1)
        time.sleep(slowed(0.5))

    eventually(lambda: is_idle(narrow))
    assert list_of(narrow, key) == []
    assert state(sent) == states.REVOKED


def test_urgent_tasks_run_first(deployment: Deployment) -> None:
    key = fresh_key()
    sent = [send(deployment, "append", key, str(nine), priority=nine) for nine in (9, 3, 6, 0, 3)]

    start(deployment, 1, CELERY_WORKER_PREFETCH_MULTIPLIER="1")

    for result in sent:
        result.get(timeout=TIMEOUT)
    assert list_of(deployment, key) == ["0", "3", "3", "6", "9"]


# -- acknowledging


def test_late_acknowledged_message_stays_in_the_broker_while_its_task_runs(
    wide: Deployment,
) -> None:
    key = fresh_key()
    sent = started(send(wide, "wait_for_with_late_ack", key))
    while_it_runs = unacked(wide, sent)

    release(wide, key)

    assert while_it_runs
    eventually(lambda: not unacked(wide, sent))
    assert sent.get(timeout=TIMEOUT) == "released"


def test_message_is_acknowledged_when_its_task_starts(wide: Deployment) -> None:
    with occupied(wide) as sent:
        eventually(lambda: not unacked(wide, sent))
        assert state(sent) == states.STARTED


def test_rejected_task_has_failed(wide: Deployment) -> None:
    sent = send(wide, "reject")

    with pytest.raises(Reject):
        sent.get(timeout=TIMEOUT)
    assert state(sent) == states.FAILURE


def test_requeued_task_runs_again_and_knows_it(wide: Deployment) -> None:
    assert call(wide, "reject_once", fresh_key()) is True


def test_task_that_is_to_be_ignored_leaves_its_state_as_it_is(wide: Deployment) -> None:
    sent = send(wide, "ignore")

    wide.wait_for_line(rf"{sent.id}\] ignored")

    assert state(sent) == "ITS OWN"


def test_ignored_result_is_not_stored(wide: Deployment) -> None:
    sent = send(wide, "touch", key := fresh_key())

    eventually(lambda: wide.key(key) == "touched")

    wide.wait_for_line(rf"{sent.id}\] succeeded")
    assert wide.key(f"celery-task-meta-{sent.id}") is None


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


# -- revoking


def test_revoked_task_with_a_countdown_is_not_run(wide: Deployment) -> None:
    key = fresh_key()
    sent = send(wide, "append", key, "ran", countdown=slowed(0.5))

    control(wide, "revoke", task_id=sent.id)

    with pytest.raises(TaskRevokedError):
        sent.get(timeout=TIMEOUT)
    wide.wait_for_line(rf"Discarding revoked task: .*{sent.id}")
    assert list_of(wide, key) == []


@pytest.mark.parametrize("terminate", [False, True])
def test_task_that_is_revoked_while_it_waits_for_a_slot_is_not_run(
    narrow: Deployment, terminate: bool
) -> None:
    key = fresh_key()
    with occupied(narrow):
        sent = send(narrow, "append", key, "ran")
        eventually(lambda: pool_of(narrow)["waiting"] == 1)

        control(narrow, "revoke", task_id=sent.id, terminate=terminate)

    eventually(lambda: is_idle(narrow))
    assert list_of(narrow, key) == []
    assert state(sent) == states.REVOKED


def test_terminated_task_is_cancelled_at_its_await_and_cleans_up(
    narrow: Deployment, narrow_events: Events
) -> None:
    key = fresh_key()
    sent = started(send(narrow, "clean_up", key))

    control(narrow, "revoke", task_id=sent.id, terminate=True)

    eventually(lambda: "task-revoked" in events_of(narrow_events, sent))
    [revoked] = [
        event
        for event in narrow_events
        if (event.get("uuid"), event["type"]) == (sent.id, "task-revoked")
    ]
    assert (revoked["terminated"], revoked["signum"]) == (True, signal.SIGTERM)
    eventually(lambda: narrow.key(key) == "cleaned up")
    assert call(narrow, "add", 1, 2) == 3
    assert state(sent) == states.REVOKED
    assert signals_of(narrow, sent).count("task_revoked(terminated=True)") == 1


def test_what_a_terminated_task_returns_all_the_same_is_not_stored(
    narrow: Deployment, narrow_events: Events
) -> None:
    key = fresh_key()
    sent = started(send(narrow, "return_when_cancelled", key))

    control(narrow, "revoke", task_id=sent.id, terminate=True)

    eventually(lambda: narrow.key(key) == "cancelled")
    next_one = send(narrow, "add", 1, 2)
    assert next_one.get(timeout=TIMEOUT) == 3
    assert state(sent) == states.REVOKED
    eventually(lambda: "task-succeeded" in events_of(narrow_events, next_one))
    assert events_of(narrow_events, sent) == ["task-received", "task-started", "task-revoked"]
    assert "task_success" not in signals_of(narrow, sent)


def test_terminated_task_stays_revoked_whatever_it_stores_when_it_ends(
    narrow: Deployment,
) -> None:
    key = fresh_key()
    sent = started(send(narrow, "tell_that_it_cleans_up", key))

    control(narrow, "revoke", task_id=sent.id, terminate=True)

    eventually(lambda: narrow.key(key) == "cleaned up")
    assert call(narrow, "add", 1, 2) == 3
    assert state(sent) == states.REVOKED


@pytest.mark.parametrize("how", ["terminate", "hard limit", "soft limit"])
def test_task_that_is_ended_may_send_others_while_it_cleans_up(wide: Deployment, how: str) -> None:
    sent_key, key = fresh_key(), fresh_key()
    limits = {"hard limit": {"time_limit": 0.3}, "soft limit": {"soft_time_limit": 0.3}}
    sent = send(wide, "send_when_cancelled", sent_key, key, **limits.get(how, {}))

    if how == "terminate":
        control(wide, "revoke", task_id=started(sent).id, terminate=True)

    eventually(lambda: state(sent) in states.READY_STATES)
    eventually(lambda: (wide.key(sent_key), wide.key(key)) == ("touched", "cleaned up"))


def test_tasks_are_terminated_by_their_stamps(wide: Deployment) -> None:
    key = fresh_key()
    task = sig(wide, "clean_up", key)
    stamp = cast("Callable[..., None]", task.stamp)
    stamp(batch=key)
    sent = started(task.apply_async())

    with occupied(wide):
        control(wide, "revoke_by_stamped_headers", headers={"batch": [key]}, terminate=True)
        eventually(lambda: wide.key(key) == "cleaned up")

    assert state(sent) == states.REVOKED


# -- time limits


def test_soft_limit_is_caught_at_the_await(wide: Deployment) -> None:
    assert call(wide, "catch_soft_limit") == "caught"


def test_soft_limit_that_is_not_caught_fails_the_task(narrow: Deployment) -> None:
    key = fresh_key()

    sent = send(narrow, "clean_up", key, soft_time_limit=0.3)

    with pytest.raises(SoftTimeLimitExceeded):
        sent.get(timeout=TIMEOUT)
    assert state(sent) == states.FAILURE
    assert narrow.key(key) == "cleaned up"
    narrow.wait_for_line(rf"Soft time limit \(0\.3s\) exceeded for .*{sent.id}")
    assert call(narrow, "add", 1, 2) == 3


def test_hard_limit_fails_the_task_and_frees_its_slot(narrow: Deployment) -> None:
    key = fresh_key()

    sent = send(narrow, "clean_up", key, time_limit=0.3)

    with pytest.raises(TimeLimitExceeded):
        sent.get(timeout=TIMEOUT)
    assert state(sent) == states.FAILURE
    assert narrow.key(key) == "cleaned up"
    narrow.wait_for_line(rf"Hard time limit \(0\.3s\) exceeded for .*{sent.id}")
    assert call(narrow, "add", 1, 2) == 3
    assert signals_of(narrow, sent).count("task_failure(TimeLimitExceeded)") == 1


def test_hard_limit_after_a_soft_one_that_was_swallowed(narrow: Deployment) -> None:
    limit, key = slowed(0.5), fresh_key()
    sent = send(narrow, "return_when_cancelled", key, soft_time_limit=0.2, time_limit=limit)

    # It is a cancellation too, which the task handles as one.
    assert sent.get(timeout=TIMEOUT) == "returned normally"
    assert call(narrow, "sleep", limit) == "slept"


def test_coroutine_that_swallows_its_cancellation_for_ever_is_abandoned(
    narrow: Deployment,
) -> None:
    sent = send(narrow, "swallow_cancellation", time_limit=0.3)

    with pytest.raises(TimeLimitExceeded):
        sent.get(timeout=TIMEOUT)
    narrow.wait_for_line(rf"swallow_cancellation\[{sent.id}\].* is abandoned")
    assert call(narrow, "add", 1, 2) == 3
    eventually(lambda: is_idle(narrow))
    assert signals_of(narrow, sent).count("task_failure(TimeLimitExceeded)") == 1


def test_coroutine_that_swallows_its_termination_for_ever_is_abandoned(
    narrow: Deployment,
) -> None:
    sent = started(send(narrow, "swallow_cancellation"))

    control(narrow, "revoke", task_id=sent.id, terminate=True)

    narrow.wait_for_line(rf"swallow_cancellation\[{sent.id}\].* is abandoned")
    assert call(narrow, "add", 1, 2) == 3
    assert state(sent) == states.REVOKED


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("CELERY_TASK_SOFT_TIME_LIMIT", SoftTimeLimitExceeded),
        ("CELERY_TASK_TIME_LIMIT", TimeLimitExceeded),
    ],
)
def test_limit_of_the_configuration_holds(
    deployment: Deployment, setting: str, error: type[Exception]
) -> None:
    start(deployment, WIDE, **{setting: "0.5"})

    with pytest.raises(error):
        call(deployment, "sleep", 3600)


def test_limits_can_be_changed_by_remote_control(wide: Deployment) -> None:
    task = f"{SERVICE}.sleep_within_limits"
    control(wide, "time_limit", task_name=task, soft=0.3, hard=20)

    with pytest.raises(SoftTimeLimitExceeded):
        call(wide, "sleep_within_limits", 3)


def test_limit_of_the_call_wins_over_that_of_the_task(wide: Deployment) -> None:
    sent = send(wide, "catch_soft_limit", soft_time_limit=0.6)

    assert sent.get(timeout=TIMEOUT) == "caught"
    assert lines_about(wide, sent, r"Soft time limit \((\S+)s\) exceeded") == ["0.6"]


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

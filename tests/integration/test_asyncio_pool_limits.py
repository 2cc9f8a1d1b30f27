"""Tasks that are revoked or run out of time under the asyncio pool."""

import signal
from collections.abc import Callable
from typing import cast

import pytest
from celery import states
from celery.exceptions import (
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
)

from tests.support.asyncio_pool import SERVICE, WIDE, call, occupied, send, sig, start
from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.patience import slowed
from tests.support.remote import (
    Events,
    control,
    events_of,
    fresh_key,
    is_idle,
    lines_about,
    list_of,
    pool_of,
    signals_of,
    started,
    state,
)

# -- revoking


def test_revoked_task_with_a_countdown_is_not_run(wide: Deployment) -> None:
    key = fresh_key()
    sent = send(wide, "append", key, "ran", countdown=slowed(2.0))

    control(wide, "revoke", task_id=sent.id)

    with pytest.raises(TaskRevokedError):
        sent.get(timeout=TIMEOUT)
    wide.wait_for_line(rf"{sent.id}\] Discarding revoked task: ")
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


def test_task_that_gets_usr1_may_catch_that_as_a_soft_limit(wide: Deployment) -> None:
    """As in a process of prefork, where that signal raises it."""
    sent = started(send(wide, "catch_soft_limit", soft_time_limit=3600))

    control(wide, "revoke", task_id=sent.id, terminate=True, signal="SIGUSR1")

    # A result keeps the state REVOKED, which the worker stores first.
    eventually(lambda: state(wide.client.AsyncResult(sent.id)) == states.SUCCESS)
    assert wide.client.AsyncResult(sent.id).get(timeout=TIMEOUT) == "caught"


def test_task_that_gets_usr1_and_does_not_catch_it_fails(narrow: Deployment) -> None:
    key = fresh_key()
    sent = started(send(narrow, "clean_up", key))

    control(narrow, "revoke", task_id=sent.id, terminate=True, signal="SIGUSR1")

    eventually(lambda: state(narrow.client.AsyncResult(sent.id)) == states.FAILURE)
    with pytest.raises(SoftTimeLimitExceeded):
        narrow.client.AsyncResult(sent.id).get(timeout=TIMEOUT)
    assert narrow.key(key) == "cleaned up"
    assert call(narrow, "add", 1, 2) == 3


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
    narrow.wait_for_line(rf"{sent.id}\] Soft time limit \(0\.3s\) exceeded for ")
    assert call(narrow, "add", 1, 2) == 3


def test_hard_limit_fails_the_task_and_frees_its_slot(narrow: Deployment) -> None:
    key = fresh_key()

    sent = send(narrow, "clean_up", key, time_limit=0.3)

    with pytest.raises(TimeLimitExceeded):
        sent.get(timeout=TIMEOUT)
    assert state(sent) == states.FAILURE
    eventually(lambda: narrow.key(key) == "cleaned up")
    narrow.wait_for_line(rf"{sent.id}\] Hard time limit \(0\.3s\) exceeded for ")
    assert call(narrow, "add", 1, 2) == 3
    assert signals_of(narrow, sent).count("task_failure(TimeLimitExceeded)") == 1


def test_hard_limit_after_a_soft_one_that_was_swallowed(narrow: Deployment) -> None:
    limit, key = slowed(1.5), fresh_key()
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

"""Retries, workflows, times and acknowledgements under the asyncio pool, as elsewhere."""

import time
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from celery import chain, chord, group, signature, states
from celery.exceptions import (
    ChordError,
    Reject,
    TaskRevokedError,
)

from tests.support.asyncio_pool import SERVICE, call, occupied, send, sig, start
from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.patience import slowed
from tests.support.remote import (
    control,
    fresh_key,
    is_idle,
    list_of,
    pool_of,
    release,
    signals_of,
    started,
    state,
    unacked,
)

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

    # A second, of which the first takes something when it starts late itself.
    assert starts[2] - starts[0] > 0.2


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
        sent = send(narrow, "append", key, "ran", expires=slowed(2.0))
        eventually(lambda: pool_of(narrow)["waiting"] == 1)
        time.sleep(slowed(2.0))

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

    wide.wait_for_line(rf"{sent.id}\] .*ignored")

    assert state(sent) == "ITS OWN"


def test_ignored_result_is_not_stored(wide: Deployment) -> None:
    sent = send(wide, "touch", key := fresh_key())

    eventually(lambda: wide.key(key) == "touched")

    wide.wait_for_line(rf"{sent.id}\] .*succeeded")
    assert wide.key(f"celery-task-meta-{sent.id}") is None


def test_delay_in_a_coroutine_publishes_in_the_event_loop(wide: Deployment) -> None:
    assert call(wide, "threads_of_delay", 5) == ["MainThread"] * 5

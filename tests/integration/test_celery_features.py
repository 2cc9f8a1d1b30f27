"""What Celery offers around a task works for coroutines as it does for plain functions."""

import time
from collections.abc import Sequence
from typing import cast

import pytest
from celery import states
from celery.exceptions import TaskRevokedError

from tests.support.deployment import SERVICE, TIMEOUT, Deployment, eventually
from tests.support.patience import slowed
from tests.support.remote import (
    Result,
    answers,
    control,
    events_of,
    fresh_key,
    inspect,
    queue_length,
    received_events,
    release,
    state,
)
from tests.support.workers import Worker

# -- when a task runs


def test_task_with_a_countdown_runs_after_it(service: Deployment) -> None:
    sent_at = time.time()

    ran_at = cast("float", service.call("now", countdown=0.5))

    assert ran_at >= sent_at + 0.5


def test_expired_task_is_not_run(service: Deployment) -> None:
    key = fresh_key()

    sent = service.send("cache", key, "written", expires=-1)

    with pytest.raises(TaskRevokedError):
        sent.get(timeout=TIMEOUT)
    assert state(sent) == states.REVOKED
    assert service.key(key) is None


def test_revoked_task_that_still_waits_is_not_run(service: Deployment) -> None:
    key = fresh_key()
    sent = service.send("cache", key, "written", countdown=slowed(2.0))

    control(service, "revoke", task_id=sent.id)

    with pytest.raises(TaskRevokedError):
        sent.get(timeout=TIMEOUT)
    assert state(sent) == states.REVOKED
    assert service.key(key) is None


def test_scheduled_task_is_listed_with_its_time(service: Deployment) -> None:
    sent = service.send("now", countdown=3600)

    def scheduled() -> list[str]:
        listed = cast("list[dict[str, dict[str, str]]]", answers(inspect(service).scheduled()))
        return [entry["request"]["id"] for entry in listed]

    eventually(lambda: sent.id in scheduled())
    control(service, "revoke", task_id=sent.id)


def test_rate_limit_of_the_decorator_and_of_a_later_command_take_effect(
    service: Deployment,
) -> None:
    name = f"{SERVICE}.at_most_one_a_second"

    def limits() -> list[object]:
        return [
            line for line in answers(inspect(service).registered("rate_limit")) if name in str(line)
        ]

    before = limits()
    control(service, "rate_limit", task_name=name, rate_limit="1000/s")

    assert before == [f"{name} [rate_limit=1/s]"]
    assert limits() == [f"{name} [rate_limit=1000/s]"]
    sent = [service.send("at_most_one_a_second", number) for number in range(3)]
    assert [result.get(timeout=TIMEOUT) for result in sent] == [0, 1, 2]
    control(service, "rate_limit", task_name=name, rate_limit="1/s")


# -- what others see of a task


@pytest.mark.parametrize("by", ["decorator", "call"])
def test_result_that_is_ignored_is_not_stored(service: Deployment, by: str) -> None:
    key = fresh_key()

    if by == "decorator":
        sent = service.send("touch", key)
    else:
        sent = service.send("cache", key, "touched", ignore_result=True)

    eventually(lambda: service.key(key) == "touched")
    service.wait_for_line(rf"{sent.id}\] .*succeeded")
    assert service.key(f"celery-task-meta-{sent.id}") is None


def test_state_of_its_own_is_seen_while_the_task_runs(service: Deployment) -> None:
    key = fresh_key()

    sent = service.send("report_progress", key)

    eventually(lambda: state(sent) == "PROGRESS")
    assert sent.info == {"done": 7}
    release(service, key)
    assert sent.get(timeout=TIMEOUT) == "released"
    assert state(sent) == states.SUCCESS


def test_tasks_are_registered_under_their_names(service: Deployment) -> None:
    assert f"{SERVICE}.add" in answers(inspect(service).registered())


# A worker of the solo pool cannot answer while it runs a task.
@pytest.mark.parametrize("service", ["prefork", "threads", "asyncio"], indirect=True)
def test_running_task_is_listed_with_its_arguments(service: Deployment) -> None:
    # Another test's task may be over before the worker has crossed it off its list.
    eventually(lambda: answers(inspect(service).active()) == [])
    key = fresh_key()

    sent = service.send("wait_for", key)

    eventually(lambda: state(sent) == states.STARTED)
    [active] = cast("list[dict[str, object]]", answers(inspect(service).active()))
    assert (active["id"], active["args"]) == (sent.id, [key])
    release(service, key)
    assert sent.get(timeout=TIMEOUT) == "released"
    eventually(lambda: answers(inspect(service).active()) == [])


def test_events_tell_of_a_task_that_is_received_started_and_done(service: Deployment) -> None:
    with received_events(service) as seen:

        def listening() -> bool:
            service.client.control.heartbeat()
            return bool(seen)

        eventually(listening)
        sent = service.send("add", 2, 3)
        eventually(lambda: "task-succeeded" in events_of(seen, sent))

    told = [event for event in seen if event.get("uuid") == sent.id]
    assert [event["type"] for event in told] == ["task-received", "task-started", "task-succeeded"]
    assert told[0]["name"] == f"{SERVICE}.add"
    assert told[-1]["result"] == "5"


# -- where a task goes


def test_task_goes_to_the_queue_of_its_decorator(deployment: Deployment) -> None:
    deployment.worker("threads", 1, "-Q", "celery")

    task_id = str(deployment.call("send_to_the_queue"))

    assert queue_length(deployment, "apart") == 1
    deployment.worker("threads", 1, "-Q", "apart")
    result: Result = deployment.client.AsyncResult(task_id)
    assert result.get(timeout=TIMEOUT) == "came here"
    assert queue_length(deployment, "apart") == 0


def test_task_routes_win_over_the_queue_of_the_decorator(deployment: Deployment) -> None:
    deployment.worker(
        "threads",
        1,
        *("-Q", "celery"),
        CELERY_TASK_ROUTES=f'{{"{SERVICE}.in_a_queue_of_its_own": {{"queue": "routed"}}}}',
    )

    deployment.call("send_to_the_queue")

    assert queue_length(deployment, "routed") == 1
    assert queue_length(deployment, "apart") == 0


def test_task_sent_on_commit_finds_what_was_committed(service: Deployment) -> None:
    name = fresh_key()
    sent = service.send("send_on_commit", name)

    own, child = cast("Sequence[str]", sent.get(timeout=TIMEOUT))

    assert own == sent.id
    result: Result = service.client.AsyncResult(child)
    assert result.get(timeout=TIMEOUT) == 1


# -- processes that end


def test_late_acknowledged_task_runs_again_when_its_process_was_killed(
    deployment: Deployment,
) -> None:
    deployment.worker("prefork", 1)

    assert deployment.call("kill_own_process_once", fresh_key()) == 2


def test_revoking_a_running_task_ends_its_process_and_the_next_task_works(
    deployment: Deployment,
) -> None:
    worker: Worker = deployment.worker("prefork", 1)
    (process, _) = cast("list[int]", deployment.call("where"))
    sent = deployment.send("wait_for", "nobody sets this")
    eventually(lambda: state(sent) == states.STARTED)

    control(deployment, "revoke", task_id=sent.id, terminate=True)

    with pytest.raises(TaskRevokedError):
        sent.get(timeout=TIMEOUT)
    eventually(lambda: process not in worker.children())
    assert deployment.call("add", 1, 2) == 3


# -- retries


def test_tasks_that_give_up_leave_the_retries_of_others_alone(service: Deployment) -> None:
    sent = [service.send("retry_unless_given_up", number % 2 == 0) for number in range(20)]

    outcomes = [result.get(timeout=TIMEOUT, propagate=False) for result in sent]

    assert [isinstance(outcome, KeyError) for outcome in outcomes[::2]] == [True] * 10
    assert outcomes[1::2] == [1] * 10

"""Time limits of async tasks hold under every pool, also where Celery itself ignores them."""

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from tests.support.deployment import SERVICE, Deployment, eventually
from tests.support.remote import control
from tests.support.workers import Pool


def test_soft_limit_is_caught_at_the_await_and_the_next_task_is_undisturbed(
    service: Deployment,
) -> None:
    assert service.call("catch_soft_limit", 20) == "caught"
    assert service.call("sleep", 0.3) == "slept"


def test_soft_limit_that_is_not_caught_fails_the_task(service: Deployment) -> None:
    with pytest.raises(SoftTimeLimitExceeded):
        service.call("sleep", 20, soft_time_limit=0.5)


def test_soft_limit_ends_the_children_of_a_task_group(service: Deployment) -> None:
    assert service.call("soft_limit_in_group", 20) == ["a", "b"]


def test_soft_limit_during_a_query_leaves_a_usable_session(service: Deployment) -> None:
    with pytest.raises(SoftTimeLimitExceeded):
        service.call("hold_transaction", 20, soft_time_limit=0.5)

    eventually(lambda: service.mariadb.open_transactions() == 0)
    assert "uncommitted" not in service.users()
    service.call("create_user", "after the limit")


def test_hard_limit_of_the_task_ends_it(service: Deployment) -> None:
    with pytest.raises(TimeLimitExceeded):
        service.call("hard_limit", 20, "hard")

    assert service.call("add", 1, 1) == 2


def test_hard_limit_of_the_call_ends_it(service: Deployment) -> None:
    with pytest.raises(TimeLimitExceeded):
        service.call("sleep", 20, time_limit=1)


def test_coroutine_that_a_hard_limit_cut_leaves_no_open_transaction(service: Deployment) -> None:
    with pytest.raises(TimeLimitExceeded):
        service.call("hold_transaction", 20, time_limit=1)

    eventually(lambda: service.mariadb.open_transactions() == 0)
    assert "uncommitted" not in service.users()


def test_hard_limit_is_not_retried(service: Deployment) -> None:
    with pytest.raises(TimeLimitExceeded):
        service.call("hard_limit_with_autoretry", "tries")

    assert service.key("tries") == "1"


# Under prefork it ends the process.
@pytest.mark.parametrize("service", ["solo", "threads", "asyncio"], indirect=True)
def test_hard_limit_lets_finally_blocks_run(service: Deployment) -> None:
    with pytest.raises(TimeLimitExceeded):
        service.call("hard_limit", 20, "cut")

    # The result is there as soon as the limit has passed.
    eventually(lambda: service.key("cut") == "cleaned up")


def test_coroutine_that_swallows_its_cancellation_is_abandoned(deployment: Deployment) -> None:
    worker = deployment.worker("threads", 1)

    with pytest.raises(TimeLimitExceeded):
        deployment.call("swallow_cancellation", 60)

    worker.wait_for_line(r"swallow_cancellation\[.*is abandoned")
    assert deployment.call("add", 1, 2) == 3


def test_limits_are_changed_and_taken_away_by_remote_control(service: Deployment) -> None:
    name = f"{SERVICE}.sleep"
    control(service, "time_limit", task_name=name, soft=0.5, hard=60)
    try:
        with pytest.raises(SoftTimeLimitExceeded):
            service.call("sleep", 20)
        # The call's own goes before.
        assert service.call("sleep", 2.5, soft_time_limit=20) == "slept"
    finally:
        control(service, "time_limit", task_name=name)

    assert service.call("sleep", 2.5) == "slept"


# Solo is as threads; for the asyncio pool test_asyncio_pool_limits has both.
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_limits_from_the_configuration_hold(deployment: Deployment, pool: Pool) -> None:
    deployment.worker(
        pool,
        CELERY_TASK_SOFT_TIME_LIMIT="0.5",
        CELERY_TASK_TIME_LIMIT="20",
    )

    with pytest.raises(SoftTimeLimitExceeded):
        deployment.call("sleep", 20)


# Prefork's limits of the command line are Celery's own; threads is as solo.
@pytest.mark.parametrize("pool", ["solo", "asyncio"])
def test_limits_from_the_command_line_hold(deployment: Deployment, pool: Pool) -> None:
    deployment.worker(pool, 2, "--soft-time-limit=1")

    with pytest.raises(SoftTimeLimitExceeded):
        deployment.call("sleep", 20)

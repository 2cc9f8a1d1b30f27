"""A worker whose tasks leave something behind, or stop the event loop: it goes on, and it stops."""

import signal

import pytest
from celery import states
from celery.result import AsyncResult

from tests.support.deployment import Deployment, eventually
from tests.support.workers import Pool

SERVICE = "tests.integration.left_behind_service"
POOLS: tuple[Pool, ...] = ("asyncio", "threads", "solo", "prefork")

DISTURBING = ("stop_loop", "exit_in_callback", "interrupt_in_background", "exit_in_group")
LEAVING = ("call_in_thread", "start_thread", "keep_generator", "keep_task")


def send(deployment: Deployment, *tasks: str) -> dict[str, AsyncResult[object]]:
    return {task: deployment.send(f"{SERVICE}.{task}") for task in tasks}


def outcome(sent: AsyncResult[object]) -> str:
    eventually(sent.ready)
    return str(sent.state)


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_does_not_end_the_loop_of_others(deployment: Deployment, pool: Pool) -> None:
    """By stopping it, nor by SystemExit or KeyboardInterrupt where no task waits for it."""
    worker = deployment.worker(pool, 1, module=SERVICE)

    for task in DISTURBING:
        [sent] = send(deployment, task).values()
        expected = states.FAILURE if task == "exit_in_group" else states.SUCCESS
        assert outcome(sent) == expected, task
        assert deployment.call(f"{SERVICE}.add", 1, 2) == 3

    assert worker.text.count("Other tasks go on.") == len(DISTURBING) - 1
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_stops_whatever_its_tasks_have_left(deployment: Deployment, pool: Pool) -> None:
    worker = deployment.worker(pool, 1, module=SERVICE)
    sent = send(deployment, *LEAVING)
    assert outcome(sent.pop("call_in_thread")) == states.FAILURE
    assert {outcome(one) for one in sent.values()} == {states.SUCCESS}

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(60) == 0
    assert "Asynchronous generators that tasks have not closed" in worker.text
    if pool != "prefork":  # whose processes Celery ends
        line = worker.wait_for_line("The process ends although threads still run").string
        assert "of-a-task" in line

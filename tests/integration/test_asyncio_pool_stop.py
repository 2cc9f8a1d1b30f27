"""How a worker with the asyncio pool ends: what runs is finished or cancelled, nothing is lost."""

import signal

import pytest
from celery import states
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.patience import slowed
from tests.support.workers import Worker

SERVICE = "tests.integration.asyncio_stop_service"


def start(deployment: Deployment, concurrency: int = 10, **environment: str) -> Worker:
    return deployment.worker("asyncio", concurrency, module=SERVICE, environment=environment)


def send(
    deployment: Deployment, task: str, *args: object, **options: object
) -> AsyncResult[object]:
    return deployment.send(f"{SERVICE}.{task}", *args, **options)


def notes(deployment: Deployment, key: str) -> list[str]:
    with deployment.redis.client(deployment.redis_db.result_db) as client:
        return [str(note) for note in client.lrange(key, 0, -1)]


def waiting(deployment: Deployment) -> int:
    with deployment.redis.client(deployment.redis_db.broker_db) as client:
        length: int = client.llen("celery")
        return length


def unacknowledged(deployment: Deployment) -> int:
    with deployment.redis.client(deployment.redis_db.broker_db) as client:
        length: int = client.hlen("unacked")
        return length


def begin(deployment: Deployment, task: str, *args: object) -> AsyncResult[object]:
    """Send a task that notes its beginning, and wait for that."""
    sent = send(deployment, task, "key", *args)
    eventually(lambda: "began" in notes(deployment, "key"))
    return sent


FREE = "free"
"""The key that tasks wait for; nobody sets NEVER."""
NEVER = "never"


def end_by_sigterm(deployment: Deployment, worker: Worker) -> None:
    """Ask a worker to end, and let its tasks go on when it has begun to."""
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_line("[wW]arm shutdown")
    set_free(deployment)
    assert worker.wait() == 0


def set_free(deployment: Deployment) -> None:
    with deployment.redis.client(deployment.redis_db.result_db) as client:
        client.set(FREE, "yes")


# -- warm


@pytest.mark.parametrize("task", ["early", "late"])
def test_a_running_task_ends_before_the_worker_does(deployment: Deployment, task: str) -> None:
    worker = start(deployment)
    sent = begin(deployment, task, FREE)

    end_by_sigterm(deployment, worker)

    assert sent.get(timeout=TIMEOUT) == "done"
    assert notes(deployment, "key") == ["began", "cleaned up"]
    assert unacknowledged(deployment) == 0
    assert waiting(deployment) == 0


def test_a_running_plain_task_ends_before_the_worker_does(deployment: Deployment) -> None:
    worker = start(deployment)
    sent = send(deployment, "plain", FREE)
    eventually(lambda: sent.state == states.STARTED)

    end_by_sigterm(deployment, worker)

    assert sent.get(timeout=TIMEOUT) == "done"


def test_what_has_not_begun_goes_back_to_the_queue(deployment: Deployment) -> None:
    worker = start(deployment, 1)
    begin(deployment, "early", FREE)
    later = [send(deployment, "early", "later", FREE) for _ in range(3)]
    eventually(lambda: unacknowledged(deployment) == 3)

    end_by_sigterm(deployment, worker)

    assert notes(deployment, "later") == []
    assert waiting(deployment) == 3
    start(deployment)
    assert [sent.get(timeout=TIMEOUT) for sent in later] == ["done"] * 3


def test_the_chain_of_a_task_that_ends_at_the_last_goes_on(deployment: Deployment) -> None:
    worker = start(deployment)
    sent = begin(deployment, "early", FREE)
    with_callback = send(
        deployment,
        "add",
        1,
        2,
        countdown=0,
        link=deployment.client.signature(f"{SERVICE}.add", (10,)),
    )
    assert with_callback.get(timeout=TIMEOUT) == 3

    end_by_sigterm(deployment, worker)

    assert sent.get(timeout=TIMEOUT) == "done"


# -- cold


SIGNALS = {
    "QUIT": [signal.SIGQUIT],
    "TERM, QUIT": [signal.SIGTERM, signal.SIGQUIT],
    "TERM, TERM": [signal.SIGTERM, signal.SIGTERM],
    "INT, INT": [signal.SIGINT, signal.SIGINT],
}


@pytest.mark.parametrize("signals", SIGNALS)
def test_a_late_acknowledged_task_is_cancelled_and_its_message_goes_back(
    deployment: Deployment, signals: str
) -> None:
    worker = start(deployment)
    sent = begin(deployment, "late", NEVER)

    for number in SIGNALS[signals]:
        seen = len(worker.lines)
        worker.send_signal(number)
        worker.wait_for_line("shutdown|Ctrl", start=seen)

    worker.wait()
    assert notes(deployment, "key") == ["began", "cancelled", "cleaned up"]
    assert unacknowledged(deployment) == 0
    assert waiting(deployment) == 1
    assert sent.state == states.STARTED


def test_an_early_acknowledged_task_is_cancelled_and_not_run_again(deployment: Deployment) -> None:
    worker = start(deployment)
    sent = begin(deployment, "early", NEVER)

    worker.quit()

    assert notes(deployment, "key") == ["began", "cancelled", "cleaned up"]
    assert waiting(deployment) == 0
    # So Celery marks it under prefork.
    assert sent.state == states.RETRY


def test_a_task_that_swallows_its_cancellation_does_not_keep_the_worker(
    deployment: Deployment,
) -> None:
    worker = start(deployment)
    begin(deployment, "swallow")

    worker.quit()

    assert "is abandoned" in worker.text
    assert "swallowed" in notes(deployment, "key")


def test_a_soft_shutdown_gives_tasks_their_time(deployment: Deployment) -> None:
    worker = start(deployment, CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT=str(slowed(2.0)))
    short = begin(deployment, "late", FREE)
    long = send(deployment, "late", "long", NEVER)
    eventually(lambda: notes(deployment, "long") == ["began"])

    worker.send_signal(signal.SIGQUIT)
    worker.wait_for_line("[sS]oft [sS]hutdown")
    set_free(deployment)
    worker.wait()

    assert short.get(timeout=TIMEOUT) == "done"
    assert notes(deployment, "long") == ["began", "cancelled", "cleaned up"]
    assert long.state == states.STARTED
    assert waiting(deployment) == 1


def test_a_worker_without_a_broker_stops(deployment: Deployment) -> None:
    worker = deployment.begin("asyncio", 10, module=SERVICE, CELERY_BROKER_REDIS_PORT="1")
    worker.wait_for_line("Cannot connect to")

    worker.send_signal(signal.SIGTERM)

    worker.wait()

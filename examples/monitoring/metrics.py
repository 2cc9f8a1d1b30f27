import os
from time import perf_counter

from celery import Task
from celery.signals import task_postrun, task_prerun, worker_ready
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = Histogram("task_seconds", "How long tasks run", ["task", "state"])
started: dict[str, float] = {}


def begin(task_id: str, **_: object) -> None:
    started[task_id] = perf_counter()


def end(task_id: str, task: Task[..., object], state: str | None, **_: object) -> None:
    seconds = perf_counter() - started.pop(task_id)
    SECONDS.labels(task.name, state or "UNKNOWN").observe(seconds)


def serve(**_: object) -> None:
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    start_http_server(int(os.environ.get("METRICS_PORT", "9100")), registry=registry)


def connect() -> None:
    task_prerun.connect(begin)
    task_postrun.connect(end)
    worker_ready.connect(serve)

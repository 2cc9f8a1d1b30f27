"""Every pool with every result backend and serializer, and sessions on both databases."""

from pathlib import Path

import pytest
from celery import Signature, chain, group, signature
from celery.result import AsyncResult

from tests.support.deployment import SERVICE, TIMEOUT, Deployment
from tests.support.workers import Pool

START: dict[str, tuple[Pool, dict[str, str]]] = {
    "prefork-fork": ("prefork", {}),
    "prefork-spawn": ("prefork", {"CELERY_WORKER_POOL_START_METHOD": "spawn"}),
    "solo": ("solo", {}),
    "threads": ("threads", {}),
    "asyncio": ("asyncio", {}),
}


# Any two of the three meet: each start has each backend and each serializer, and so have these each
# other. There is no code in which all three do, so the other ten triples would show nothing more.
TRIPLES = [
    (start, *pair)
    for number, start in enumerate(START)
    for pair in [
        [("redis", "json"), ("database", "orjson")],
        [("redis", "orjson"), ("database", "json")],
    ][number % 2]
]


@pytest.mark.parametrize(("start", "backend", "serializer"), TRIPLES)
def test_everyday_tasks(deployment: Deployment, start: str, backend: str, serializer: str) -> None:
    deployment.make_tables()
    pool, environment = START[start]
    if backend == "database":
        deployment.use_database_for_results()
    deployment.worker(
        pool,
        CELERY_RESULT_BACKEND_TYPE=backend,
        CELERY_TASK_SERIALIZER=serializer,
        CELERY_RESULT_SERIALIZER=serializer,
        CELERY_ACCEPT_CONTENT=serializer,
        environment=environment,
    )

    def sig(task: str, *args: object) -> Signature[object]:
        return signature(f"{SERVICE}.{task}", args=args, app=deployment.client)

    created = [
        deployment.send(task, task)
        for task in ("create_user", "create_user_by_runtime", "create_user_by_runner")
    ]
    cached = deployment.send("cache", "key", "välue")
    retried = deployment.send("retry_until", 1)
    failed = deployment.send("fail", "kaput")
    chained = chain(sig("add", 1, 2), sig("add", 3)).apply_async()
    grouped = group(sig("add", i, i) for i in range(3)).apply_async()

    assert sorted(str(result.get(timeout=TIMEOUT)) for result in created) == ["1", "2", "3"]
    assert sorted(deployment.users()) == [
        "create_user",
        "create_user_by_runner",
        "create_user_by_runtime",
    ]
    assert cached.get(timeout=TIMEOUT) == "välue"
    assert retried.get(timeout=TIMEOUT) == [retried.id, 1]
    assert isinstance(failed.get(timeout=TIMEOUT, propagate=False), ValueError)
    assert failed.state == "FAILURE"
    assert chained.get(timeout=TIMEOUT) == 6
    assert grouped.get(timeout=TIMEOUT) == [0, 2, 4]
    if backend == "database":
        rows = deployment.mariadb.query(
            f"SELECT COUNT(*) FROM `{deployment.database}`.celery_taskmeta"
        )
        assert rows == [(11,)]


# One start for each kind of place where a session is: a process of the pool, a loop beside the
# thread of the task, and the loop of the worker itself.
@pytest.mark.parametrize("start", ["prefork-fork", "threads", "asyncio"])
def test_sessions_on_sqlite(deployment: Deployment, start: str, tmp_path: Path) -> None:
    pool, environment = START[start]
    deployment.worker(
        pool,
        CELERY_SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite",
        CELERY_DB_DATABASE=str(tmp_path / "service.db"),
        environment=environment,
    )
    deployment.call("create_tables")

    results: list[AsyncResult[object]] = [
        deployment.send(task, "Ada")
        for task in ("create_user", "create_user_by_runtime", "create_user_by_runner")
    ]

    assert sorted(str(result.get(timeout=TIMEOUT)) for result in results) == ["1", "2", "3"]
    assert deployment.call("count_users", "Ada") == 3


def test_results_in_a_sqlite_database(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    deployment.client.conf.update(result_backend=f"db+sqlite:///{path}")
    deployment.worker(
        "threads",
        CELERY_RESULT_BACKEND_TYPE="database",
        CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME="sqlite",
        CELERY_SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite",
        CELERY_DB_DATABASE=str(path),
    )

    assert deployment.call("add", 1, 2) == 3

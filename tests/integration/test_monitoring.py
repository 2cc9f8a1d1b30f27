"""The page about monitoring: its files in real workers, with the real packages."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from typing_extensions import override

from tests.support import recipes
from tests.support.deployment import close_client, eventually
from tests.support.patience import patience
from tests.support.servers import RedisDb, RedisServer
from tests.support.servers.base import HOST, free_port
from tests.support.servers.redis import fresh_redis_db
from tests.support.workers import Pool, Worker

pytest.importorskip("sentry_sdk")
pytest.importorskip("opentelemetry.instrumentation.celery")


@contextmanager
def sentry() -> Generator[tuple[str, list[str]]]:
    """A server that takes what Sentry's client sends: its address, and the texts that came."""
    texts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            texts.append(body.decode())
            self.send_response(200)
            self.end_headers()

        @override
        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://key@{HOST}:{server.server_port}/1", texts
        finally:
            server.shutdown()


@dataclass
class Monitored:
    """A worker of the example, and what watches it."""

    folder: Path
    environment: dict[str, str]
    worker: Worker
    client: Celery
    reported: list[str]

    @property
    def logged(self) -> list[dict[str, Any]]:
        """The lines of the log; only those of the program are objects in one line."""
        lines = [line for line in self.worker.text.splitlines() if line.startswith('{"')]
        return [json.loads(line) for line in lines]

    @property
    def spans(self) -> list[dict[str, Any]]:
        return spans_in(self.worker.text)

    def events(self) -> list[dict[str, Any]]:
        """The errors that Sentry has got."""
        lines = (line for text in self.reported for line in text.splitlines())
        return [event for line in lines if "exception" in (event := json.loads(line))]


def spans_in(text: str) -> list[dict[str, Any]]:
    """What the console exporter has printed: each span is an object of several lines."""
    found = re.findall(r"^\{\n.*?^\}", text, re.MULTILINE | re.DOTALL)
    return [json.loads(span) for span in found]


@contextmanager
def start(
    folder: Path, redis_db: RedisDb, pool: Pool, **environment: str
) -> Generator[tuple[Worker, Celery, dict[str, str]]]:
    environment = recipes.environment(redis_db) | {
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "METRICS_PORT": str(free_port()),
        **environment,
    }
    if pool == "prefork":
        (folder / "metrics").mkdir()
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
    client = Celery(broker=redis_db.broker_url, backend=redis_db.result_url, set_as_current=False)
    with Worker("app", pool=pool, concurrency=2, cwd=folder, env=environment, cold=True) as worker:
        worker.wait_for_line(r" ready\.")
        yield worker, client, environment
        assert worker.stop() == 0
    close_client(client)


@pytest.fixture(scope="module", params=["prefork", "asyncio"])
def monitored(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Monitored]:
    folder = recipes.copy("monitoring", tmp_path_factory.mktemp("recipe"))
    redis_db = fresh_redis_db(redis_server)
    with (
        sentry() as (dsn, reported),
        start(
            folder,
            redis_db,
            request.param,
            SENTRY_DSN=dsn,
            CELERY_WORKER_SEND_TASK_EVENTS="true",
        ) as (worker, client, environment),
    ):
        yield Monitored(folder, environment, worker, client, reported)


def test_errors_are_reported_with_what_their_task_has_done(monitored: Monitored) -> None:
    sent = {cents: monitored.client.send_task("app.charge", (cents,)) for cents in (-1, -2, -3)}
    for cents, result in sent.items():
        with pytest.raises(ValueError, match=f"Nobody can pay {cents}"):
            result.get(timeout=patience(30))
    eventually(lambda: len(monitored.events()) == 3)

    events = {event["tags"]["celery_task_id"]: event for event in monitored.events()}
    for cents, result in sent.items():
        event = events[result.id]
        assert event["transaction"] == "app.charge"
        assert event["exception"]["values"][-1]["value"] == f"Nobody can pay {cents}"
        crumbs = [crumb["message"] for crumb in event["breadcrumbs"]["values"]]
        assert [crumb for crumb in crumbs if "charging" in crumb] == [f"charging {cents}"]

    def failed() -> set[str]:
        return {line["task_id"] for line in monitored.logged if "traceback" in line}

    eventually(lambda: failed() == {result.id for result in sent.values()})


def test_logs_and_traces(monitored: Monitored) -> None:
    printed = recipes.run(
        "client", folder=monitored.folder, env=monitored.environment | {"SENTRY_DSN": ""}
    )
    assert "[1, 2, 3]" in printed.splitlines()  # between spans, if the program took its time
    sent = {span["context"]["span_id"]: span for span in spans_in(printed)}
    [order] = [span for span in sent.values() if span["name"] == "order"]
    trace_id = order["context"]["trace_id"]

    def ran() -> dict[str, str]:
        """The tasks of the trace, each with the message that its parent has sent."""
        return {
            span["attributes"]["messaging.message.id"]: sent[span["parent_id"]]["attributes"][
                "messaging.message.id"
            ]
            for span in monitored.spans
            if span["name"] == "run/app.charge" and span["context"]["trace_id"] == trace_id
        }

    eventually(lambda: len(ran()) == 3)
    assert all(ran_id == sent_id for ran_id, sent_id in ran().items())
    spans = monitored.spans
    of_tasks = {span["context"]["span_id"] for span in spans if span["name"][:3] == "run"}
    inner = [span["parent_id"] for span in spans if span["name"] == "payment"]
    assert set(inner) == of_tasks
    assert len(inner) == len(of_tasks)
    charging = {
        line["task_id"]: line["message"]
        for line in monitored.logged
        if line["task_id"] in ran() and line["message"].startswith("charging")
    }
    assert sorted(charging.values()) == ["charging 1", "charging 2", "charging 3"]
    assert "Failed to detach" not in monitored.worker.text


def test_metrics(monitored: Monitored) -> None:
    url = f"http://{HOST}:{monitored.environment['METRICS_PORT']}/metrics"

    def counted() -> float:
        found = re.findall(
            r"^task_seconds_count\{(.*)\} (.*)$",
            httpx.get(url, timeout=patience(30)).text,
            re.MULTILINE,
        )
        labels = {'state="SUCCESS"', 'task="app.charge"'}
        return sum(float(value) for names, value in found if set(names.split(",")) == labels)

    before = counted()
    sent = [monitored.client.send_task("app.charge", (cents,)) for cents in range(4)]
    assert [result.get(timeout=patience(30)) for result in sent] == [0, 1, 2, 3]

    eventually(lambda: counted() == before + 4)


@pytest.mark.parametrize("monitored", ["asyncio"], indirect=True)
def test_flower(monitored: Monitored) -> None:
    port = free_port()
    flower = ["-A", "app", "flower", f"--address={HOST}", f"--port={port}"]
    environment = monitored.environment | {"FLOWER_UNAUTHENTICATED_API": "true"}
    with (
        # Its handler of SIGTERM raises SystemExit, which Python ignores in a destructor.
        recipes.running("celery", flower, folder=monitored.folder, env=environment, asked_to_end=3),
        httpx.Client(base_url=f"http://{HOST}:{port}/api", timeout=patience(30)) as client,
    ):

        def workers() -> dict[str, Any]:
            found: dict[str, Any] = client.get("/workers").json()
            return found

        eventually(lambda: is_up(client) and monitored.worker.hostname in workers())
        answer = client.post("/task/apply/app.charge", json={"args": [7]}).json()
        assert (answer["state"], answer["result"]) == ("SUCCESS", 7)

        task_id = answer["task-id"]
        eventually(lambda: client.get(f"/task/info/{task_id}").is_success)
        eventually(lambda: client.get(f"/task/info/{task_id}").json()["state"] == "SUCCESS")
        seen = client.get(f"/task/info/{task_id}").json()
        assert (seen["name"], seen["args"], seen["result"]) == ("app.charge", "(7,)", "7")

        grown = client.post(f"/worker/pool/grow/{monitored.worker.hostname}", params={"n": 3})
        assert grown.is_success


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/workers").is_success
    except httpx.TransportError:
        return False


STRUCTLOG = """
import structlog

@async_shared_task
async def ship(order: int) -> None:
    logger.info("shipping")
    structlog.contextvars.bind_contextvars(order=order)
    await asyncio.sleep(0.05)
    structlog.get_logger().info("shipped")
    logger.info("done")
"""
LOGURU = """
import loguru

@async_shared_task
async def ship(order: int) -> None:
    logger.info("shipping")
    await asyncio.sleep(0.05)
    with loguru.logger.contextualize(order=order):
        loguru.logger.info("shipped")
        logger.info("done")
"""


@pytest.mark.parametrize(
    ("module", "pool", "more"),
    [("structlog_logs", "asyncio", STRUCTLOG), ("loguru_logs", "prefork", LOGURU)],
)
def test_logs_of_other_packages(
    tmp_path: Path, redis_db: RedisDb, module: str, pool: Pool, more: str
) -> None:
    folder = recipes.copy("monitoring", tmp_path)
    app = folder / "app.py"
    app.write_text(app.read_text("utf-8").replace("json_logs", module) + more, encoding="utf-8")

    with start(folder, redis_db, pool) as (worker, client, _):
        sent = {order: client.send_task("app.ship", (order,)) for order in range(4)}
        for result in sent.values():
            result.get(timeout=patience(30))

    lines = [json.loads(line) for line in worker.text.splitlines() if line.startswith('{"')]
    records = [plain(line) for line in lines]
    for order, result in sent.items():
        of_task = [record for record in records if record[1] == result.id]
        said = [(text, number) for text, _, number in of_task if text[:4] in {"ship", "done"}]
        assert said == [("shipping", None), ("shipped", order), ("done", order)]
    assert any(text.endswith(" ready.") and task_id == "-" for text, task_id, _ in records)


def plain(line: dict[str, Any]) -> tuple[str, str, int | None]:
    """The text of a line of structlog or loguru, its task's id and the order that was bound."""
    if "record" in line:
        extra = line["record"]["extra"]
        return line["record"]["message"], extra["task_id"], extra.get("order")
    return line["event"], line["task_id"], line.get("order")

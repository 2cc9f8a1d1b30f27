"""The page about monitoring: its modules in a real worker, with the real packages."""

import gzip
import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from typing_extensions import override

from tests.support.patience import patience, wait_until
from tests.support.servers import RedisDb
from tests.support.workers import PROJECT, Pool, Worker

pytest.importorskip("sentry_sdk")
pytest.importorskip("opentelemetry.instrumentation.celery")

PAGE = PROJECT / "docs" / "how-to" / "monitoring.md"


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

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://key@127.0.0.1:{server.server_port}/1", texts
        finally:
            server.shutdown()


@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_logs_errors_and_traces(tmp_path: Path, redis_db: RedisDb, pool: Pool) -> None:
    for code in re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name is not None
        (tmp_path / name[1]).write_text(code, encoding="utf-8")
    server = f"redis://{redis_db.host}:{redis_db.port}"
    broker, results = f"{server}/{redis_db.broker_db}", f"{server}/{redis_db.result_db}"

    with sentry() as (dsn, reported), Celery(broker=broker, backend=results) as client:
        environment = {
            "CELERY_BROKER_URL": broker,
            "CELERY_RESULT_BACKEND": results,
            "SENTRY_DSN": dsn,
        }
        with Worker(
            "app", pool=pool, concurrency=2, cwd=tmp_path, env=environment, cold=True
        ) as worker:
            worker.wait_for_line(r" ready\.")
            good = client.send_task("app.charge", (5,))
            assert good.get(timeout=patience(30)) == 5
            bad = client.send_task("app.charge", (-1,))
            with pytest.raises(ValueError, match="Nobody can pay -1"):
                bad.get(timeout=patience(30))
            wait_until(
                lambda: any("Nobody can pay -1" in text for text in reported),
                30,
                "the report of the error",
            )
            assert worker.stop() == 0

    logged = [json.loads(line) for line in worker.lines if line.startswith('{"time"')]
    charged = next(line for line in logged if line["message"] == "charged 5")
    assert charged["task_id"] == good.id
    assert any("traceback" in line and line["task_id"] == bad.id for line in logged)
    report = next(text for text in reported if "Nobody can pay -1" in text)
    assert bad.id in report
    assert "app.charge" in report
    # The console exporter prints each span as an object.
    spans = [
        json.loads(found)
        for found in re.findall(r"^\{\n.*?^\}", worker.text, re.MULTILINE | re.DOTALL)
    ]
    tasks = {
        span["attributes"]["messaging.message.id"]: span
        for span in spans
        if span["name"] == "run/app.charge"
    }
    inner = [span for span in spans if span["name"] == "payment"]
    assert set(tasks) == {good.id, bad.id}
    assert {span["parent_id"] for span in inner} == {
        span["context"]["span_id"] for span in tasks.values()
    }

"""The example of a web application: a real server, a real worker, and a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.browser import browsing, find_browser
from tests.support.deployment import deploy, eventually
from tests.support.patience import patience
from tests.support.servers import MariaDBServer, RedisServer, die_with_parent
from tests.support.servers.base import HOST, free_port
from tests.support.workers import PROJECT, Worker

EXAMPLE = PROJECT / "examples" / "fastapi"


@pytest.fixture(scope="module")
def url(
    redis_server: RedisServer,
    mariadb_server: MariaDBServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Where the application is, which has a worker."""
    port = free_port()
    log_file = tmp_path_factory.mktemp("web") / "log"
    with deploy(redis_server, mariadb_server) as deployment:
        environment = deployment.environment
        worker = Worker("worker", pool="asyncio", concurrency=20, env=environment, cwd=EXAMPLE)
        serve = [sys.executable, "-m", "uvicorn", "web:api", "--host", HOST, "--port", str(port)]
        with worker, log_file.open("wb") as log:
            web = subprocess.Popen(
                die_with_parent(serve),
                cwd=EXAMPLE,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )
            try:
                worker.wait_ready()
                found = f"http://{HOST}:{port}"
                eventually(lambda: answers(found))
                yield found
            finally:
                web.terminate()
                web.wait(patience(30))


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=patience(30)) as client:
        yield client


def start(client: httpx.Client, pages: int, seconds: float) -> str:
    order = {"name": "report", "pages": pages, "seconds": seconds}
    answer = client.post("/exports", json=order)
    assert answer.status_code == 202
    return str(answer.json()["id"])


def follow(client: httpx.Client, task_id: str) -> Iterator[tuple[str, dict[str, object]]]:
    with client.stream("GET", f"/exports/{task_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in response.iter_lines():
            key, _, value = line.partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                yield name, json.loads(value)


def status(client: httpx.Client, task_id: str) -> dict[str, object]:
    found: dict[str, object] = client.get(f"/exports/{task_id}").json()
    return found


def test_export_is_followed_to_its_end(client: httpx.Client) -> None:
    task_id = start(client, pages=5, seconds=0.3)

    *progress, (last, ended) = follow(client, task_id)

    assert progress
    assert all(name == "progress" and data["total"] == 5 for name, data in progress)
    assert progress == sorted(progress, key=lambda one: str(one[1]["done"]))
    assert last == "status"
    assert ended["state"] == "SUCCESS"
    assert ended["export"] == {"file": "report.pdf", "pages": 5}
    assert status(client, task_id) == ended
    assert [*follow(client, task_id)] == [("status", ended)]


def test_export_is_cancelled(client: httpx.Client) -> None:
    task_id = start(client, pages=1000, seconds=1)
    events = follow(client, task_id)

    assert next(events)[0] == "progress"
    assert client.delete(f"/exports/{task_id}").status_code == 204
    *_, (name, ended) = events

    assert name == "status"
    assert ended["state"] == status(client, task_id)["state"] == "REVOKED"


def test_export_that_fails_says_why(client: httpx.Client) -> None:
    task_id = start(client, pages=0, seconds=0)

    [(_, ended)] = follow(client, task_id)

    assert (ended["state"], ended["error"]) == ("FAILURE", "report has no pages")


def test_order_that_is_none_is_refused(client: httpx.Client) -> None:
    assert client.post("/exports", json={"name": "report", "pages": -1}).status_code == 422
    assert status(client, "nobody-knows-it")["state"] == "PENDING"


def test_page_shows_and_cancels_an_export(url: str, tmp_path: Path) -> None:
    browser = find_browser()
    if browser is None:
        pytest.skip("there is no Chromium or Chrome: apt-get install chromium")

    with browsing(browser, tmp_path) as page:
        page.open(url)
        page.until("!!document.querySelector('#start')", "the page is there")
        page.evaluate("document.querySelector('[name=pages]').value = 3")
        page.click("#start")
        page.until("document.querySelector('#bar').max == 3", "there is progress")
        page.until("document.querySelector('#state').value.startsWith('SUCCESS')", "it has ended")
        assert page.evaluate("document.querySelector('#state').value") == "SUCCESS: report.pdf"
        assert page.evaluate("document.querySelector('#bar').value") == 3

        page.evaluate("document.querySelector('[name=pages]').value = 1000")
        page.click("#start")
        page.until("document.querySelector('#state').value.endsWith(' of 1000 pages')", "it runs")
        address = page.evaluate("location.href")
        page.click("#cancel")
        page.until(
            "document.querySelector('#state').value.startsWith('REVOKED')", "it is cancelled"
        )
        assert page.evaluate("document.querySelector('#cancel').disabled") is True

        # Whoever gets the address sees the same export.
        page.open(str(address))
        page.until(
            "document.querySelector('#state')?.value.startsWith('REVOKED')", "it is shown again"
        )

"""A real browser without a window, driven by Chrome's DevTools protocol over a pipe."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from tests.support.patience import patience

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")

Answer = dict[str, object]


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Page:
    """A page that is open in a browser."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = os.fdopen(answers, "rb")
        self._unread = b""
        self._number = 0
        self._session: str | None = None

    def open(self, url: str) -> None:
        target = self._call("Target.createTarget", url=url)["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = str(attached["sessionId"])

    def evaluate(self, expression: str) -> object:
        """What a JavaScript expression gives in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return cast("Answer", answer["result"]).get("value")

    def until(self, expression: str, what: str) -> object:
        """The value of an expression, as soon as it is true."""
        deadline = time.monotonic() + patience(30)
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, (
                f"{what}: {self.evaluate('document.body.innerText')}"
            )
            time.sleep(0.02)
        return value

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({selector!r}).click()")

    def close(self) -> None:
        self._answers.close()

    def _call(self, method: str, **params: object) -> Answer:
        self._number += 1
        message: Answer = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return cast("Answer", answer["result"])

    def _read(self) -> Answer:
        while b"\0" not in self._unread:
            more = self._answers.read1()
            assert more, "the browser has ended"
            self._unread += more
        first, _, self._unread = self._unread.partition(b"\0")
        return cast("Answer", json.loads(first))


@contextmanager
def browsing(browser: str, folder: Path) -> Generator[Page]:
    """A page of a browser that keeps its files in `folder`."""
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()

    def place_pipes() -> None:
        # It reads from 3 and writes to 4, which may be the very ends that are to be put there.
        reading, writing = os.dup(to_browser), os.dup(from_browser)
        reading, writing = os.dup2(reading, 103), os.dup2(writing, 104)
        os.dup2(reading, 3)
        os.dup2(writing, 4)

    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-dev-shm-usage", "--disable-extensions", "--remote-debugging-pipe"),
                f"--user-data-dir={folder / 'profile'}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=False,
            preexec_fn=place_pipes,  # noqa: PLW1509 (nothing in the child takes a lock)
        )
    os.close(to_browser)
    os.close(from_browser)
    page = Page(commands, answers)
    try:
        yield page
    finally:
        process.kill()
        process.wait()
        page.close()
        os.close(commands)

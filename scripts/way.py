"""Count the functions of ours that an argument passes on its way into a coroutine, and its result back.

A real client, and a real worker of the asyncio pool whose lean path the task takes, over a Redis of their own.
Counted are functions of tomskit.celery, each once:

* in the client all that ``.delay(...)`` calls, and all that ``.get()`` calls for a result that is there;
* in the worker those that are called with the argument or the result, or with the message, the request or the job
  that holds it; the event loop and other work that goes on meanwhile are left out.

Other tasks have run before, so that nothing is looked up for the first time.

Usage: python -m scripts.way [-v], with the names of all functions
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final

from tests.support.servers import RedisServer

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task

MARK: Final = "the-argument-on-its-way"
IN_MESSAGE: Final = base64.b64encode(f'[["{MARK}'.encode())[:24]
OURS: Final = f"{os.sep}tomskit{os.sep}celery{os.sep}"
CARRIERS: Final = ("Message", "Request", "Job", "Execution", "Report", "partial")
"""In the names of classes whose objects hold a message, an argument or a result."""
DEPTH: Final = 4
WARM: Final = 20
"""How many tasks run before."""
SECONDS: Final = 90.0
FOUND: Final = "TOMSKIT_WAY"
"""Environment variable of the worker: where it writes what it has found."""

Name = tuple[str, str]
"""A file, from src/tomskit/celery on, and the qualified name of a function."""

app: Final = AsyncCelery("way", config=CeleryConfig())


@async_shared_task(name="echo")
async def echo(text: str) -> str:
    """Return its argument."""
    return text


class Calls:
    """The functions of ours that a thread calls."""

    def __init__(self) -> None:
        self.names: list[Name] = []

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call; as `sys.setprofile` calls it."""
        if event == "call" and (name := _name_of(frame)) is not None:
            self.names.append(name)


class CallsOfWorker:
    """The functions of ours that have the marked argument, and its result, in their hands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bodies = 0
        self._ways: tuple[list[Name], list[Name]] = [], []

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call; as `sys.setprofile` calls it."""
        if event != "call":
            return
        code = frame.f_code
        if code.co_name == "echo" and code.co_filename == __file__:
            self._bodies += 1
        elif self._bodies >= WARM and (name := _name_of(frame)) is not None and _holds_mark(frame):
            self._ways[self._bodies > WARM].append(name)
            self._path.write_text(json.dumps(self._ways), encoding="utf-8")


def _name_of(frame: FrameType) -> Name | None:
    """The name of a called function of ours; None of others, and of what is no function."""
    code = frame.f_code
    _, found, file = code.co_filename.rpartition(OURS)
    return (file, code.co_qualname) if found and not code.co_name.startswith("<") else None


def _holds_mark(frame: FrameType) -> bool:
    return any(_holds(value, DEPTH) for value in frame.f_locals.values())


def _holds(value: object, depth: int) -> bool:
    if isinstance(value, str):
        return MARK in value
    if isinstance(value, (bytes, bytearray)):
        return MARK.encode() in value or IN_MESSAGE in value
    return depth > 0 and any(_holds(one, depth - 1) for one in _parts(value))


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    elif any(name in type(value).__name__ for name in CARRIERS):
        yield from getattr(value, "__dict__", {}).values()
        for kind in type(value).__mro__:
            for slot in getattr(kind, "__slots__", ()):
                yield getattr(value, slot, None)


def main() -> None:
    """Run a client and a worker, and print the counts."""
    with RedisServer() as redis, TemporaryDirectory() as folder:
        found = Path(folder) / "way.json"
        os.environ["CELERY_BROKER_URL"] = redis.url(0)
        os.environ["CELERY_RESULT_BACKEND"] = redis.url(1)
        client = AsyncCelery("client", config=CeleryConfig())
        client.set_current()
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "scripts.way", "worker", "-P", "asyncio"),
                *("-c", "10", "-l", "INFO", "--without-gossip", "--without-mingle"),
            ],
            env={**os.environ, FOUND: str(found)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for number in range(WARM):
                echo.delay(str(number)).get(timeout=SECONDS)
            sent, received = Calls(), Calls()
            sys.setprofile(sent)
            result = echo.delay(MARK)
            sys.setprofile(None)
            while not result.ready():
                time.sleep(0.1)
            again = echo.AsyncResult(result.id)
            sys.setprofile(received)
            again.get(timeout=SECONDS)
            sys.setprofile(None)
        finally:
            worker.terminate()
            worker.wait()
        into, back = json.loads(found.read_text(encoding="utf-8"))
    _print("client, .delay", sent.names)
    _print("worker, to the coroutine", into)
    _print("worker, from the coroutine", back)
    _print("client, .get", received.names)


def _print(title: str, calls: list[Name]) -> None:
    names = list(dict.fromkeys((file, name) for file, name in calls))
    print(f"{title}: {len(names)} functions in {len({file for file, _ in names})} files")
    if "-v" in sys.argv:
        print(*(f"    {file} {name}" for file, name in names), sep="\n")


if FOUND in os.environ:
    sys.setprofile(CallsOfWorker(Path(os.environ[FOUND])))

if __name__ == "__main__":
    main()

"""Contenders that are not written in Python: BullMQ on Node.js, and Sidekiq on Ruby."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from shutil import which
from typing import Final

from tests.support.workers import PROJECT, Worker
from typing_extensions import override

from benchmarks.pools.contenders import Client, Command, Contender, Run, urls
from benchmarks.pools.environment import TRIPS
from benchmarks.pools.watches import BullWatch, ListWatch, Watch
from benchmarks.pools.workloads import IGNORED, PEERS

_HERE: Final = Path(__file__).parent

_PACKAGES: Final = ("bullmq", "ioredis")

_THREADS: Final = 10
"""Sidekiq's default. More make it slower: one lock lets one thread of Ruby run."""


class _Foreign(Contender):
    _program: list[str]
    _more: dict[str, str]

    @override
    def fill(self, run: Run) -> None:
        done = subprocess.run(
            [*self._program, *self._filling(run)],
            check=False,
            env={**os.environ, **urls(run), **self._more},
            cwd=PROJECT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            msg = f"{self.name}'s queue could not be filled:\n{done.stdout}{done.stderr}"
            raise RuntimeError(msg)

    def _filling(self, run: Run) -> list[str]:
        raise NotImplementedError


class BullMQ(_Foreign):
    """BullMQ, with a thousand concurrent tasks in one process of Node.js.

    Args:
        node: The interpreter.
        packages: The folder with its packages.
    """

    def __init__(self, node: str, packages: Path) -> None:
        super().__init__("bullmq", PEERS)
        self._program = [node, str(_HERE / "bullmq_app.js")]
        self._more = {"NODE_PATH": str(packages)}

    @override
    def _filling(self, run: Run) -> list[str]:
        return ["fill", run.work.task, str(run.count), *map(str, run.work.args)]

    @override
    def worker(self, run: Run) -> Worker:
        return Command([*self._program, "worker"], {**urls(run), **self._more})

    @override
    def client(self, run: Run) -> Client:
        return Client([*self._program, TRIPS, str(run.count)], {**urls(run), **self._more})

    @override
    def _watch(self, run: Run) -> Watch:
        return BullWatch(run.stack.enter_context(run.servers.redis.client(run.queue_db)), run.count)


class Sidekiq(_Foreign):
    """Sidekiq, which has no results, with as many threads as it starts by default.

    Args:
        ruby: The interpreter.
        command: Its command for workers.
    """

    def __init__(self, ruby: str, command: str) -> None:
        super().__init__(f"sidekiq -c {_THREADS}", (IGNORED,))
        self._program = [ruby, str(_HERE / "sidekiq_app.rb")]
        self._command = command
        self._more = {}

    @override
    def _filling(self, run: Run) -> list[str]:
        return [str(run.count)]

    @override
    def worker(self, run: Run) -> Worker:
        command = [self._command, "-r", str(_HERE / "sidekiq_app.rb"), "-c", str(_THREADS)]
        return Command(command, urls(run))

    @override
    def _watch(self, run: Run) -> Watch:
        queue, results = (
            run.stack.enter_context(run.servers.redis.client(db))
            for db in (run.queue_db, run.results_db)
        )
        return ListWatch(queue, results, key="queue:default", count=run.count)


_INSTALL_SECONDS: Final = 180
"""npm itself tries for longer than anybody waits, where it reaches nothing."""


def bullmq(folder: Path) -> Contender | str:
    """Install BullMQ into `folder`."""
    node, npm = which("node"), which("npm")
    if node is None or npm is None:
        return "there is no node with npm on the PATH"
    folder.mkdir()
    quietly = ("--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")
    command = [npm, "install", *quietly, "--prefix", str(folder), *_PACKAGES]
    names = " and ".join(_PACKAGES)
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return (
            f"npm has not installed {names} within {_INSTALL_SECONDS} s: does it reach a registry?"
        )
    if done.returncode:
        return f"{names} could not be installed by npm:\n{done.stderr}"
    return BullMQ(node, folder / "node_modules")


def sidekiq() -> Contender | str:
    """Debian's Sidekiq."""
    ruby, command = which("ruby"), which("sidekiq")
    if ruby is None or command is None:
        return "it is not installed; Debian's package is ruby-sidekiq"
    return Sidekiq(ruby, command)

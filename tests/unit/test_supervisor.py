"""The supervisor of ``celery workers``, with commands that are no workers."""

import asyncio
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.patience import patience
from tomskit._commands.supervisor import PASSED_ON, Supervisor
from tomskit._commands.workers import workers
from tomskit.celery._worker.supervised import READY_VARIABLE


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Let the signals that a supervisor takes mean what they did before."""
    before = {number: signal.getsignal(number) for number in (*PASSED_ON, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_command_that_cannot_be_started_for_a_while_is_tried_again(tmp_path: Path) -> None:
    command = tmp_path / "command"
    away = tmp_path / "away"
    # As where the virtual environment of a worker is replaced: it ends, and its Python is gone.
    command.write_text(
        f'#!/bin/sh\necho ready >"/dev/fd/${READY_VARIABLE}"\nmv "$0" "{away}"\nexit 3\n',
        encoding="utf-8",
    )
    command.chmod(0o755)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "No such file" in text:
            away.rename(command)
        if sum("exit code 3" in one for one in said) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    supervisor = Supervisor({"one": [str(command)]}, output=io.BytesIO(), say=say)

    async def run() -> int:
        async with asyncio.timeout(patience(30)):
            return await supervisor.run()

    assert asyncio.run(run()) == 0
    assert "one died (exit code 3); it is started again in 1 s" in said
    assert any(
        f"No such file or directory: '{command}'" in one and "started again in 2 s" in one
        for one in said
    )


def test_a_command_that_cannot_be_started_at_all_stops_all(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(
        {"one": [str(tmp_path / "missing")]}, output=io.BytesIO(), say=said.append
    )
    assert asyncio.run(supervisor.run()) == os.EX_OSERR
    assert "one could not start" in said[0]
    assert "No such file or directory" in said[0]


def test_more_workers_than_a_machine_can_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP", raising=False)  # so that none is started, whatever happens
    result = CliRunner().invoke(workers, ["--processes", "1000000"])
    assert result.exit_code == 2
    assert "1000000 workers are too many for this machine" in " ".join(result.output.split())

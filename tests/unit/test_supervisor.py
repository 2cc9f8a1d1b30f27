"""The supervisor of ``celery workers``, with commands that are no workers."""

import asyncio
import functools
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.patience import patience, wait_until
from tomskit._commands.supervisor import PASSED_ON, Supervisor
from tomskit._commands.workers import workers
from tomskit.celery._worker.supervised import READY_VARIABLE


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Let the signals that a supervisor takes mean what they did before."""
    others = (signal.SIGHUP, signal.SIGTSTP, signal.SIGCONT)
    before = {number: signal.getsignal(number) for number in (*PASSED_ON, *others)}
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


SUPERVISOR = """
import sys
from tomskit._commands.supervisor import run_workers

# The first process leads its group, as a worker does that has a pool of processes.
command = "sleep 600 & echo $$ $!; wait"
sys.exit(run_workers({name: ["/bin/sh", "-c", command] for name in ("one", "two")}))
"""


def test_all_are_suspended_together_and_go_on_together() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as supervisor:
        assert supervisor.stdout is not None
        lines = [supervisor.stdout.readline() for _ in range(2)]
        processes = [supervisor.pid, *(int(one) for line in lines for one in line.split()[2:])]
        assert len(processes) == 5
        try:
            for number, are_suspended in ((signal.SIGTSTP, True), (signal.SIGCONT, False)) * 2:
                supervisor.send_signal(number)
                as_told = functools.partial(have_state, processes, are_suspended)
                wait_until(as_told, 30, f"all to have got {number.name}")
        finally:
            supervisor.send_signal(signal.SIGCONT)
            supervisor.send_signal(signal.SIGQUIT)
            for process in processes[1:]:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def have_state(processes: list[int], are_suspended: bool) -> bool | None:
    pids = ",".join(map(str, processes))
    states = subprocess.check_output(["ps", "-o", "stat=", "-p", pids], text=True).split()
    assert len(states) == len(processes)
    return all(state.startswith("T") == are_suspended for state in states) or None

"""A program that calls tasks and has not imported the module that makes its app."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.patience import patience
from tests.support.servers.base import free_port

_TASK = """
    import asyncio
    from tomskit.celery import AsyncCelery, async_shared_task

    @async_shared_task
    async def greet(name: str) -> str:
        return name
"""

_CALLS = {
    "delay": "greet.delay('Ada')",
    "apply_async": "greet.apply_async(('Ada',))",
    "adelay": "asyncio.run(greet.adelay('Ada'))",
    "signature": "greet.s('Ada').delay()",
}


def said_by(program: str, folder: Path) -> str:
    """What a program writes to stderr, which calls tasks on a broker that is not there."""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, "CELERY_BROKER_URL": f"redis://localhost:{free_port()}/0"},
        text=True,
        timeout=patience(60),
    )
    assert ran.returncode == 1
    return ran.stderr


@pytest.mark.parametrize("call", _CALLS)
def test_a_call_that_cannot_be_sent_says_that_there_is_no_app(call: str, tmp_path: Path) -> None:
    said = said_by(f"{dedent(_TASK)}\n{_CALLS[call]}", tmp_path)

    assert "OperationalError" in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("No app has been made in this process")
    assert "import app" in last


def test_nothing_of_it_is_said_where_there_is_an_app(tmp_path: Path) -> None:
    said = said_by(f"{dedent(_TASK)}\napp = AsyncCelery('shop')\n{_CALLS['delay']}", tmp_path)

    assert "OperationalError" in said
    assert "No app has been made" not in said

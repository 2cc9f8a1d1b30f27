"""What tomskit relies on in Celery beyond its public names: the variables that it reads itself."""

import re
from pathlib import Path

import celery as celery_package
import click
import pytest
from celery.bin.celery import celery

from tests.support.settings import command_options
from tomskit.celery._internals.celery_command import variables_of_celery


def test_the_variables_of_the_command_line_are_those_that_click_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``celery.bin.celery.celery``."""
    for name, parameter in command_options(celery, "CELERY"):
        assert name in variables_of_celery()
        assert parameter.name
    worker = celery.commands["worker"]
    context = click.Context(worker, auto_envvar_prefix="CELERY_WORKER", info_name="worker")
    monkeypatch.setenv("CELERY_WORKER_HOSTNAME", "from the variable")
    [hostname] = [one for one in worker.params if one.name == "hostname"]
    assert hostname.resolve_envvar_value(context) == "from the variable"


def test_other_variables_of_celery_are_in_its_source() -> None:
    """The variables of ``celery.app.log``, ``celery.worker.state`` and other modules."""
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in Path(celery_package.__path__[0]).rglob("*.py")
    )
    read = set(re.findall(r"environ(?:\.get)?[(\[]'(CELERY_\w+)'", source))
    read |= set(re.findall(r"_(?:int|float)_env\('?(CELERY_\w+)", source))
    assert len(read) > 8
    assert read <= variables_of_celery()

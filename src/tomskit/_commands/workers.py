"""``celery -A app workers --processes 4``: ordinary workers for all cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

import click

__all__ = ("workers",)

_FILES = ("logfile", "pidfile", "statedb")

_MOST_PER_CORE: Final = 32
"""Each worker takes some 100 MB: more of them are a slip, such as for the concurrency."""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    epilog="All other options are those of `celery worker`, and go to each of them.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=_cores,
    show_default="one for each core",
    help="How many workers to run.",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF WORKER]")
@click.pass_context
def workers(ctx: click.Context, processes: int, options: tuple[str, ...]) -> None:
    """Run several workers in the foreground, and keep them running.

    \b
    $ celery -A proj workers --processes 4
    $ celery -A proj workers --processes 4 -c 500 -Q mail -l INFO

    Each is an ordinary worker with a process of its own, named celery-1@host and so on. Signals are
    passed on; a worker that dies is started again; its lines have its name in front.
    """  # noqa: D301 (click reads this character)
    from tomskit._commands.supervisor import run_workers

    if processes > (most := _MOST_PER_CORE * _cores()):
        raise click.UsageError(
            f"--processes: {processes} workers are too many for this machine; the limit is {most}. "
            "One for each core is enough; -c says how many tasks each runs at once.",
            ctx,
        )
    app = ctx.find_root().params.get("app") or os.environ.get("APP")
    if app is None:
        raise click.UsageError("name your app: celery -A app workers", ctx)
    if not isinstance(app, str):
        raise click.UsageError("the app must be given by its name: celery -A app workers", ctx)
    hostname = _checked(ctx, processes, options)
    name, _, host = hostname.partition("@")
    shared = [sys.executable, "-m", "celery", "-A", app, *_global_options(ctx)]
    ctx.exit(
        run_workers(
            {
                f"{name}-{number}": [*shared, "worker", *options, "-n", f"{name}-{number}@{host}"]
                for number in range(1, processes + 1)
            },
            hint=f"`celery -A {app} doctor` looks for the cause",
        )
    )


def _global_options(ctx: click.Context) -> Iterator[str]:
    # What else Celery takes before the command it has put into the environment, which workers
    # inherit, or applied (the folder).
    given = ctx.find_root().params
    if given.get("no_color"):
        yield "--no-color"
    if given.get("quiet"):
        yield "--quiet"


def _checked(ctx: click.Context, processes: int, options: tuple[str, ...]) -> str:
    """Refuse options that a worker does not have, or that several cannot share; returns the name."""
    from celery.bin.worker import worker

    try:
        with worker.make_context("worker", [*options], parent=ctx.parent) as parsed:
            given = parsed.params
    except click.UsageError as exc:
        if isinstance(exc, click.NoSuchOption):
            names = [name for param in (*ctx.command.params, *worker.params) for name in param.opts]
            near = get_close_matches(exc.option_name, names)
            raise click.NoSuchOption(exc.option_name, possibilities=near, ctx=ctx) from None
        raise
    if given.get("detach"):
        raise click.UsageError(
            "--detach: workers run in the foreground, under systemd or in a container; for "
            "detached ones use celery multi.",
            ctx,
        )
    if given.get("beat"):
        raise click.UsageError(
            "--beat: each worker would be a scheduler, and send each task again. Run `celery beat` "
            "beside the workers.",
            ctx,
        )
    from tomskit.celery._app import AsyncApp

    shared = {f"--{option}": given.get(option) for option in _FILES}
    if isinstance(ctx.obj.app, AsyncApp):
        shared["CELERY_WORKER_HEALTH_FILE"] = ctx.obj.app.config.CELERY_WORKER_HEALTH_FILE
    for option, path in shared.items():
        if processes > 1 and path and "%n" not in str(path):
            raise click.UsageError(
                f"{option}: {processes} workers cannot share {path}. Put %n into it, which becomes "
                "each worker's name.",
                ctx,
            )
    return str(given["hostname"])

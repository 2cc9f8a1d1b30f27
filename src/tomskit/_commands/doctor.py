"""``celery -A app doctor``: tries everything that a worker needs, and says what to do."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from tomskit._commands.unloadable import UnloadableApp, load_for

if TYPE_CHECKING:
    from tomskit._commands.examination import Finding

__all__ = ("doctor",)

_NARROWEST: Final = 30
"""Columns of text, however narrow the terminal."""

_COLOURS: Final = {"ok": "green", "skipped": "blue", "warning": "yellow", "failed": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds for each check.",
)
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, timeout: float) -> None:
    """Try the broker, the results, the database and the rest of what a worker needs.

    Prints what it finds and what to do about it. The exit code is 1 if something failed.
    """
    app = ctx.obj.app
    findings = [*app.findings()] if isinstance(app, UnloadableApp) else _examined(ctx, app, timeout)
    failed = any(finding.status == "failed" for finding in findings)
    if as_json:
        shown = [finding.as_dict() for finding in findings]
        click.echo(json.dumps({"ok": not failed, "checks": shown}, indent=2))
    else:
        _print_table(ctx, findings)
    ctx.exit(1 if failed else 0)


def _examined(ctx: click.Context, app: object, timeout: float) -> list[Finding]:
    from tomskit._commands.checks import CHECKS, load_modules
    from tomskit._commands.examination import examine
    from tomskit.celery.app import AsyncCelery

    if not isinstance(app, AsyncCelery):
        if ctx.find_root().params.get("app") is None:
            raise click.UsageError("name your app: celery -A app doctor", ctx)
        raise click.UsageError(
            f"{app!r} is not an AsyncCelery app. Name yours: celery -A app doctor", ctx
        )
    findings = [*load_modules(app)]
    known = {finding.name for finding in findings}
    rest = {name: check for name, check in CHECKS.items() if name not in known}
    return findings + examine(app, rest, timeout)


def _print_table(ctx: click.Context, findings: Sequence[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    margin = width + 12
    # What is piped stays one line for each, for grep.
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    room = max(columns - margin, _NARROWEST)
    for finding in findings:
        status = ctx.obj.style(f"{finding.status:8}", fg=_COLOURS[finding.status])
        detail = _wrapped(finding.detail, room, " " * margin)
        ctx.obj.echo(f"{finding.name:{width}}  {status}  {detail}")
        if finding.advice:
            advice = _wrapped(finding.advice, room - 3, " " * (margin + 3))
            ctx.obj.echo(f"{'':{margin}}-> {advice}")
    counts = Counter(finding.status for finding in findings)
    shown = [f"{counts[status]} {_plural(status, counts[status])}" for status in counts]
    ctx.obj.echo("\n" + ", ".join(shown))


def _wrapped(text: str, width: int, margin: str) -> str:
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return f"\n{margin}".join(lines)


def _plural(status: str, count: int) -> str:
    return "warnings" if status == "warning" and count > 1 else status


load_for("doctor")

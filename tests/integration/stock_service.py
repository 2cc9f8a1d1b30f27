"""A service of plain Celery: neither this module nor what it imports knows of tomskit."""

from __future__ import annotations

import os
import sys
from typing import cast

from celery import Celery, chain, signature

app = Celery(
    "stock", broker=os.environ.get("STOCK_BROKER"), backend=os.environ.get("STOCK_BACKEND")
)


@app.task
def knows_tomskit() -> bool:
    # Celery's command line imports the commands of all packages that have some.
    return "tomskit.celery.app" in sys.modules


@app.task
def kinds(*args: object, **kwargs: object) -> list[str]:
    """What it gets, and what that holds."""
    return [_kind(value) for value in [*args, *kwargs.values()]]


def _kind(value: object) -> str:
    name = type(value).__name__
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value)
        return f"{name}({', '.join(f'{key}={_kind(pairs[key])}' for key in pairs)})"
    if isinstance(value, list):
        return f"{name}({', '.join(map(_kind, cast('list[object]', value)))})"
    return name


@app.task
def answer(value: object) -> object:
    return value


@app.task
def postpone(order: dict[str, object], due: object) -> dict[str, object]:
    return {**order, "due": due}


@app.task
def send(names: list[str], args: list[object]) -> str:
    """Send a chain of tasks, none of which this process knows, and answer with its id."""
    first, *others = [
        signature(name, app=app, options={"queue": "stock"} if name in app.tasks else {})
        for name in names
    ]
    return str(chain(first.clone(args=tuple(args)), *others, app=app).apply_async().id)

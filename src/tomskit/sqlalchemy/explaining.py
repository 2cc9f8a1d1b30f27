"""What to do about errors of SQLAlchemy that say what is wrong inside of it only."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import MissingGreenlet

__all__ = ("explain_lazy_loading",)

_LAZY: Final = (
    "An attribute was read that SQLAlchemy loads when it is first read, such as a relationship, and nothing "
    "awaits that. Load it with its object: select(User).options(selectinload(User.orders)); or before it is "
    "read: await db.session.refresh(user, ['orders'])."
)


def explain_lazy_loading(engine: Engine) -> None:
    """Let the error of an attribute that is loaded where nothing is awaited say how it is loaded in time."""
    event.listen(engine, "handle_error", _explain)


def _explain(context: ExceptionContext) -> None:
    if isinstance(context.original_exception, MissingGreenlet):
        (context.sqlalchemy_exception or context.original_exception).add_note(_LAZY)

"""The result backend, which stores of errors what is needed to make them again."""

from __future__ import annotations

from collections.abc import Callable
from traceback import clear_frames
from typing import Any, Final, TypeGuard

from celery.backends.base import Backend
from celery.utils.serialization import UnpickleableExceptionWrapper
from kombu.exceptions import EncodeError

from tomskit.celery._app import AsyncApp
from tomskit.celery._values.read_errors import error_from
from tomskit.celery._values.stored_errors import DETAILS, details_of, original_of, without_marks

__all__ = ("carry_errors", "keep_original")

_LARGEST: Final = 65_536
"""Bytes of what is stored beside Celery's own: a statement may have thousands of parameters."""
_STORED: Final = "_tomskit_stored"
"""The attribute of an error that stands for another: what is to be stored of that one."""


def carry_errors(app: AsyncApp, backend: Backend) -> Backend:
    """Let `backend` store what errors are made of, and make them of that again."""
    celerys_prepare, celerys_read = backend.prepare_exception, backend.exception_to_python

    def prepare_exception(exc: Exception, serializer: str | None = None) -> object:
        kept: object = vars(exc).get(_STORED)
        if kept is not None:
            return kept
        original = original_of(exc)
        stored: object = celerys_prepare(original, serializer)
        if not _is_dict(stored):
            # With pickle it is the error itself, for which Celery has chosen one that can be copied.
            return celerys_prepare(exc, serializer)
        if "exc_message" in stored:
            stored["exc_message"] = without_marks(stored["exc_message"])
        details = _details_of(original)
        if details and _fits(backend, details):
            stored[DETAILS] = details
        return stored

    def exception_to_python(exc: object) -> object:
        if isinstance(exc, BaseException) and not isinstance(exc, UnpickleableExceptionWrapper):
            # Celery takes one that counts as false for none at all.
            return exc
        if not (_is_dict(exc) and exc.get("exc_type") and exc.get("exc_module")):
            return celerys_read(exc)
        allowed = app.config.CELERY_RESULT_ERROR_MODULES
        try:
            return error_from(exc, allowed)
        except RecursionError:
            # Not written by us, who stop long before.
            return error_from({**exc, DETAILS: None}, allowed)

    vars(backend).update(
        encode=_without_cycles(backend.encode),
        prepare_exception=prepare_exception,
        exception_to_python=exception_to_python,
    )
    return backend


def _without_cycles(encode: Callable[[object], object]) -> Callable[[object], object]:
    """Let `encode` leave no cycle when it raises.

    A frame of kombu's has the error that it raises. Celery tries to encode what an error was made with, and
    the cycle would hold the frames that deal with a failed task, 0.3 MB.
    """

    def encoded(data: object) -> object:
        try:
            return encode(data)
        except Exception as exc:
            clear_frames(exc.__traceback__)
            raise

    return encoded


def keep_original(backend: Backend, error: object) -> None:
    """Keep what is to be stored of the error for which this one stands, for another thread."""
    if isinstance(error, Exception) and original_of(error) is not error:
        stored: object = backend.prepare_exception(error)
        if _is_dict(stored):
            vars(error)[_STORED] = stored


def _details_of(error: Exception) -> dict[str, object]:
    try:
        return details_of(error)
    except Exception:  # noqa: BLE001
        # Its class is the application's: the failure is stored as Celery does.
        return {}


def _fits(backend: Backend, details: object) -> bool:
    try:
        return len(backend.encode(details)) <= _LARGEST
    except (EncodeError, TypeError, ValueError, RecursionError):
        return False


def _is_dict(value: Any) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)

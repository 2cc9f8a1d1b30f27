"""Checks of what is joined to a signature and of the arguments that it gets later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery import canvas
from celery.canvas import Signature

from tomskit.celery._internals.celery_tasks import ChainSignature
from tomskit.celery._values.codec import Codec

__all__ = ("check_follower", "check_upstream", "codec_of", "require_signature")


def require_signature(other: object) -> None:
    """Refuse anything but a signature beside ``|``.

    Signatures are dicts, and a dict merges with any other one.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(other, Signature):
        kind = type(other).__qualname__
        raise TypeError(
            f"Signatures are joined with signatures, not with a {kind}: make one of a task with "
            "task.s(...), task.si(...) or task.p(...)."
        )


def check_follower(signature: Signature[Any]) -> None:
    """Check that a result fits in front of the arguments of a signature.

    Raises:
        TaskArgumentsError: The arguments are complete without it.
    """
    codec = _codec_of(signature)
    if codec is not None:
        codec.check_follower(tuple(signature.args), signature.kwargs)


def check_upstream(signature: Signature[Any], upstream: tuple[object, ...]) -> tuple[object, ...]:
    """The wire form of the first argument of a partial signature.

    Args:
        signature: The signature that gets it, and that passes it to its first tasks.
        upstream: The first argument, or nothing.

    Raises:
        TaskArgumentsError: It does not fit one of the tasks.
    """
    if not upstream:
        return upstream
    first = upstream[0]
    for step in _first_steps(signature):
        codec = None if step.immutable else _codec_of(step)
        if codec is not None:
            first = codec.check_first(upstream[0])
    return (first, *upstream[1:])


def _first_steps(signature: Signature[Any]) -> Iterator[Signature[Any]]:
    """The tasks that get the first argument of a signature."""
    if isinstance(signature, ChainSignature):
        yield from _first_steps(signature.tasks[0])
    elif isinstance(signature, (canvas.group, canvas.chord)):
        for task in signature.tasks:
            yield from _first_steps(task)
    else:
        yield signature


def codec_of(task: object) -> Codec | None:
    """What encodes and decodes the arguments of a task; None for a task of Celery's own kind."""
    codec: object = getattr(task, "_tomskit_codec", None)
    return codec if isinstance(codec, Codec) else None


def _codec_of(signature: Signature[Any]) -> Codec | None:
    """The codec of a signature's task; None for a plain task, and for one of another program."""
    try:
        task: object = signature.type
    except KeyError:
        # It is not registered here.
        return None
    return codec_of(task)

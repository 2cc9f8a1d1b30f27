"""Arguments of ``apply_async`` and its like: a tuple or a list, and a mapping, as of Celery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tomskit.errors import TaskArgumentsError

__all__ = ("CallerArguments", "caller_arguments", "named_arguments", "positional_arguments")


class CallerArguments(tuple[object, ...]):
    """Positional arguments that the caller of a task has written.

    Only values that fit the annotations are accepted of them and of the keyword arguments that go
    with them. ``apply_async`` and ``apply`` of a registered task accept wire forms as well, because
    Celery calls them with what it has read from a message.
    """

    __slots__ = ()


def caller_arguments(
    task: str, args: Iterable[object] | None, kwargs: Mapping[str, object] | str | None
) -> tuple[CallerArguments, dict[str, object]]:
    """The arguments of a call that somebody has written; as of the two functions below."""
    return CallerArguments(positional_arguments(task, args)), named_arguments(task, kwargs)


def positional_arguments(task: str, args: Iterable[object] | None) -> tuple[object, ...]:
    """The positional arguments of a call.

    Args:
        task: The task's name.
        args: As they were given; nothing for none.

    Raises:
        TaskArgumentsError: They are something else than a tuple or a list. A text would become one
            argument for each of its characters, and a dict one for each key.
    """
    if isinstance(args, (tuple, list)):
        return (*args,)
    if args is None:
        return ()
    raise TaskArgumentsError(
        f"{task}: args is {args!r} ({type(args).__name__}), not a tuple or a list: write (value,) for "
        "one positional argument, and kwargs= for arguments by name."
    )


def named_arguments(task: str, kwargs: Mapping[str, object] | str | None) -> dict[str, object]:
    """The keyword arguments of a call.

    Args:
        task: The task's name.
        kwargs: As they were given; nothing for none.

    Raises:
        TaskArgumentsError: They are no mapping.
    """
    if isinstance(kwargs, (dict, Mapping)):  # the first is faster to ask for
        return dict(kwargs)
    if kwargs is None:
        return {}
    raise TaskArgumentsError(
        f"{task}: kwargs is {kwargs!r} ({type(kwargs).__name__}), not a mapping of names to values."
    )

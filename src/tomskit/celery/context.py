"""The task's id as toms-fast has it; ``AsyncCelery.task_id_context`` is the same variable."""

from typing_extensions import deprecated

from tomskit.celery._running.context import task_id_context

__all__ = ("clear_task_id", "get_task_id", "set_task_id", "task_id_context_var")

task_id_context_var = task_id_context


@deprecated("Use AsyncCelery.task_id_context.set(task_id)")
def set_task_id(task_id: str) -> None:
    """Let log records of this context carry the id."""
    task_id_context.set(task_id)


@deprecated("Use AsyncCelery.task_id_context.get()")
def get_task_id() -> str | None:
    """The id of the running task, or None outside of tasks."""
    return task_id_context.get()


@deprecated("Use AsyncCelery.task_id_context.set(None)")
def clear_task_id() -> None:
    """Let log records of this context carry no id."""
    task_id_context.set(None)

"""When the signal of a soft time limit may interrupt a process of the prefork pool: while the code of its task runs.

At any other time it would interrupt code of Celery's that stores an outcome, publishes the next call of a chain, or
writes into the pipe to the worker, which would then read half a message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

__all__ = ("Gate", "State", "gate")

State: TypeAlias = Literal["before", "open", "after"]


class Gate:
    """Lets interruptions of a process through while the code of its task runs.

    One that comes before is raised when that begins, and one that comes after it is dropped.

    Attributes:
        state: Whether the code of the task runs here. Python looks for signals where a function is called, so it is
            set without a call.
        tasks: The names of the tasks whose code opens the gate. For all others it is open.
    """

    def __init__(self) -> None:
        self.state: State = "after"
        self.tasks = set[str]()
        self._interrupt: Callable[[], object] | None = None
        self._thread = 0
        self._noted = False

    def guard(self, interrupt: Callable[[], object]) -> None:
        """Guard this process, whose tasks run in this thread, and are interrupted by what `interrupt` raises."""
        self._interrupt = interrupt
        self._thread = threading.get_ident()

    def begin(self, task: object) -> None:
        """The task of this name begins, with code of Celery's."""
        self._noted = False
        self.state = "before" if isinstance(task, str) and task in self.tasks else "open"

    def open(self) -> None:
        """The code of the task begins; raises the interruption that has come before."""
        self.state = "open"
        if self._noted:
            self._noted = False
            self.on_signal()

    def closed(self, *, for_good: bool = True) -> State | None:
        """The state when the code that is about to begin has ended; None where nothing interrupts it.

        Args:
            for_good: It is the task's body, and no hook.
        """
        if self._thread != threading.get_ident():
            return None
        return "after" if for_good and self.state == "before" else self.state

    def on_signal(self) -> None:
        """Interrupt the task, now or when its code begins."""
        if self.state == "before":
            self._noted = True
        elif self.state == "open" and self._interrupt is not None:
            self._interrupt()


gate: Final = Gate()

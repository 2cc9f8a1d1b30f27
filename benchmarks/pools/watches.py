"""Watch the progress of a worker from outside: in Redis, with commands of constant cost."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from typing_extensions import override

_PORTION: Final = 100
"""How many of Celery's results to read at once."""

_STARTED: Final = re.compile(r'"status":\s*"STARTED"')
_SUCCESS: Final = re.compile(r'"status":\s*"SUCCESS"')


class Commands(Protocol):
    """A redis-py client, whose own types are incomplete."""

    def execute_command(self, *args: str | int) -> object:
        """Send a command and return the reply."""
        ...


class Watch(ABC):
    """The progress of a worker."""

    @abstractmethod
    def taken(self) -> bool:
        """Whether the worker has taken something from the queue."""

    @abstractmethod
    def left(self) -> int:
        """How many tasks have no result yet; 0 only if all have one."""

    @abstractmethod
    def succeeded(self) -> int:
        """How many results there are, without those of failed tasks if they can be told apart."""


def _number(client: Commands, *command: str | int) -> int:
    return cast("int", client.execute_command(*command))


def _texts(client: Commands, *command: str | int) -> list[str | None]:
    return cast("list[str | None]", client.execute_command(*command))


@dataclass
class ListWatch(Watch):
    """A list as the queue, and a database that contains only one key for each result."""

    queue: Commands
    results: Commands
    key: str
    count: int

    @override
    def taken(self) -> bool:
        return _number(self.queue, "LLEN", self.key) < self.count

    @override
    def left(self) -> int:
        return self.count - _number(self.results, "DBSIZE")

    @override
    def succeeded(self) -> int:
        return _number(self.results, "DBSIZE")


@dataclass
class CeleryWatch(ListWatch):
    """Celery's queue and results; with `tracked` a key may still have the state STARTED."""

    ids: Sequence[str]
    tracked: bool
    _unfinished: list[str] = field(init=False)

    def __post_init__(self) -> None:
        # Taken from the end, so that the oldest come first, as in the worker.
        self._unfinished = [f"celery-task-meta-{task_id}" for task_id in reversed(self.ids)]

    @override
    def left(self) -> int:
        missing = super().left()
        if missing or not self.tracked:
            return missing
        while portion := self._unfinished[-_PORTION:]:
            values = _texts(self.results, "MGET", *portion)
            if any(value is None or _STARTED.search(value) for value in values):
                break
            del self._unfinished[-_PORTION:]
        return len(self._unfinished)

    @override
    def succeeded(self) -> int:
        keys = [f"celery-task-meta-{task_id}" for task_id in self.ids]
        values = _texts(self.results, "MGET", *keys)
        return sum(value is not None and bool(_SUCCESS.search(value)) for value in values)


@dataclass
class CountedWatch(Watch):
    """Tasks without results, of which the last one sets a key."""

    queue: Watch
    results: Commands
    key: str
    count: int

    @override
    def taken(self) -> bool:
        return self.queue.taken()

    @override
    def left(self) -> int:
        return self.count - self.succeeded()

    @override
    def succeeded(self) -> int:
        return self.count * _number(self.results, "EXISTS", self.key)


@dataclass
class ArqWatch(Watch):
    """arq's sorted set, from which a job is removed when its result is stored."""

    database: Commands
    count: int

    @override
    def taken(self) -> bool:
        # At first there are a key for each job and the queue. A job in progress adds two keys.
        keys = _number(self.database, "DBSIZE")
        return keys > self.count + 1 or self.left() < self.count

    @override
    def left(self) -> int:
        return _number(self.database, "ZCARD", "arq:queue")

    @override
    def succeeded(self) -> int:
        return len(_texts(self.database, "KEYS", "arq:result:*"))


@dataclass
class StreaqWatch(Watch):
    """streaq's stream, from which a task is removed when its result is stored."""

    database: Commands
    count: int
    key: str = "streaq:default:queues:normal"

    @override
    def taken(self) -> bool:
        groups = self.database.execute_command("XINFO GROUPS", self.key)
        pending = [group["pending"] for group in cast("list[dict[str, int]]", groups)]
        return any(pending) or self.left() < self.count

    @override
    def left(self) -> int:
        return _number(self.database, "XLEN", self.key)

    @override
    def succeeded(self) -> int:
        return len(_texts(self.database, "KEYS", "streaq:default:task:results:*"))


@dataclass
class BullWatch(Watch):
    """BullMQ's lists of jobs that wait and that run, and its sorted set of completed ones."""

    database: Commands
    count: int
    prefix: str = "bull:benchmark:"

    @override
    def taken(self) -> bool:
        return _number(self.database, "LLEN", f"{self.prefix}wait") < self.count

    @override
    def left(self) -> int:
        return self.count - self.succeeded()

    @override
    def succeeded(self) -> int:
        return _number(self.database, "ZCARD", f"{self.prefix}completed")

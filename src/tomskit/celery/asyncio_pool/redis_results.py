"""Results in Redis, stored by all tasks of a turn of the loop in one go."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from celery import states
from celery.exceptions import BackendStoreError
from kombu.utils.encoding import str_to_bytes
from typing_extensions import override

from tomskit.celery._client.progress import PROGRESS
from tomskit.celery._internals.celery_backend import RedisBackend, copy_attributes
from tomskit.celery._internals.celery_request import new_context
from tomskit.celery._internals.redis_connections import Command
from tomskit.celery._running.greenlets import await_here
from tomskit.celery._running.places import here
from tomskit.celery._values.fast_json import dumps
from tomskit.celery._values.plain import is_plain
from tomskit.celery.asyncio_pool.clock import Clock
from tomskit.celery.fast_redis.batches import Batches
from tomskit.celery.fast_redis.scripts import STORE, is_forbidden, stored_ones

if TYPE_CHECKING:
    from celery.app.task import Context

    from tomskit.celery._internals.celery_request import LeanRequest

__all__ = ("RedisResults",)

_AT_ONCE: Final = 50
"""How many results are stored together. Their tasks are acknowledged before the next ones are stored, as
those that are not run again if the worker is killed."""


_Done: TypeAlias = "Callable[[BaseException | None], object]"


class _State:
    """The state of a task on the lean path, to be stored: STARTED, or its result.

    Where the task ends before STARTED is sent, only its result is, in that place.

    Args:
        results: Stores it.
        request: The request of the task.
        key: The key in Redis.
        data: The encoded result; None for STARTED.
        done: Called when the result is stored, or with the error.
    """

    __slots__ = ("_data", "_done", "_is_sent", "_request", "_results", "key")

    def __init__(
        self,
        results: RedisResults,
        request: LeanRequest,
        key: bytes,
        data: bytes | None,
        done: _Done | None,
    ) -> None:
        self.key: bytes = key
        self._results: RedisResults | None = results
        self._request = request
        self._data = data
        self._done = done
        self._is_sent = False

    def become(self, data: bytes, done: _Done) -> bool:
        """Become this result; False if STARTED has been sent already."""
        if self._is_sent:
            return False
        self._data, self._done = data, done
        return True

    def value(self) -> bytes | None:
        results = self._results
        if results is None:
            return None
        self._is_sent = True
        return results.encode_started(self._request) if self._data is None else self._data

    def finished(self, error: BaseException | None) -> None:
        results, done = self._results, self._done
        # What is called may hold this: no cycle may keep the objects of a task alive.
        self._results = self._done = None
        if done is not None:
            done(error)
        elif results is not None:
            results.on_started(self._request, self, error)

    def cancel(self) -> None:
        """Do not send it, unless that has happened, and call nothing."""
        self._results = self._done = None


class RedisResults(RedisBackend):
    """Celery's Redis backend, for code in greenlets: it reads and writes in the event loop.

    Keys, formats, expiry and publishing are Celery's. The commands of all tasks in a turn of the loop
    go in one write.

    Args:
        backend: Celery's own.
        chord_part: Counts the finished tasks of a chord.
        store_later: Calls something that stores a state, in a greenlet of its own, and again until
            the server returns.
    """

    def __init__(
        self,
        backend: RedisBackend,
        *,
        chord_part: Callable[..., object],
        store_later: Callable[[Callable[[], object]], asyncio.Task[None]],
    ) -> None:
        copy_attributes(backend, self)
        self._chord_part = chord_part
        self._batches = Batches(backend.client.connection_pool, at_once=_AT_ONCE)
        self._may_script = True
        self._store_later = store_later
        self._pid = os.getpid()
        self._clock = Clock(self.app)
        self._key_prefix = str_to_bytes(self.get_key_for_task("x"))[:-1]
        # STARTED writes in flight, by task id: the first attempt, or the retries.
        self._started: dict[str, asyncio.Future[list[object]] | asyncio.Task[None] | _State] = {}

    @override
    def store_result(
        self,
        task_id: str,
        result: object,
        state: str,
        traceback: str | None = None,
        request: Context | None = None,
        **_: object,
    ) -> object:
        # Retrying is left to the caller.
        encoded: object = self.encode_result(result, state)
        if state != PROGRESS:
            # That follows it: a task that runs again has to begin, before it takes the place of its end.
            self._overtake_started(task_id)
        command = None
        if self._may_script:
            meta = self._get_result_meta(encoded, state, traceback, request)
            command = self._command(task_id, state, meta)
        plainly = partial(self._store_result, task_id, encoded, state, traceback, request)
        if command is not None and state == states.STARTED:
            # The task need not wait. Commands keep their order, and one of a short task that has not
            # been sent yet is dropped.
            started = self._started[task_id] = self._batches.begin(command)
            again = partial(self._store, command, plainly)
            started.add_done_callback(partial(self._on_started, task_id, again))
        elif state == PROGRESS:
            self._store_after_started(task_id, command, plainly)
        else:
            self._store(command, plainly)
        return encoded

    def _store_after_started(
        self, task_id: str, command: Command | None, plainly: Callable[[], object]
    ) -> None:
        """Store a report, which must not be hidden by STARTED where that is stored later, or again."""

        def store() -> None:
            self._wait_for_started(task_id)
            plainly()

        self._wait_for_started(task_id)
        self._store(command, store)
        if self._wait_for_started(task_id):
            self._store(command, plainly)

    def _wait_for_started(self, task_id: str) -> bool:
        """Wait while STARTED is stored again and again; whether it was."""
        started = self._started.get(task_id)
        if not isinstance(started, asyncio.Task):
            return False
        await_here(asyncio.wait([started]))
        return True

    # -- without Celery's tracer

    def encode_success(
        self, request: LeanRequest, value: object, children: list[object]
    ) -> bytes | None:
        """What is stored for a task that has returned `value`; None where only Celery can say."""
        if not self._may_script or not is_plain(value):
            return None
        try:
            data = self._encoded(request, states.SUCCESS, value, children, self._clock.now())
        except TypeError:
            return None
        return data if len(data) <= self._MAX_STR_VALUE_SIZE else None

    def store_success(self, request: LeanRequest, data: bytes, done: _Done) -> None:
        """Store what `encode_success` has made; `done` is called with the error, if there is one."""
        started = self._started.pop(request.id, None)
        if started is not None:
            if isinstance(started, _State) and started.become(data, done):
                return
            started.cancel()
        self._store_state(request, data, done)

    def store_started(self, request: LeanRequest) -> None:
        """Store that a task has started, unless it ends before that is sent."""
        self._started[request.id] = self._store_state(request, None, None)

    def _store_state(self, request: LeanRequest, data: bytes | None, done: _Done | None) -> _State:
        state = _State(self, request, self._key_prefix + request.id.encode(), data, done)
        self._batches.store(state, self.expires or 0)
        return state

    def on_started(self, request: LeanRequest, state: _State, error: BaseException | None) -> None:
        """Note that STARTED was stored, or why not."""
        task_id = request.id
        if self._started.get(task_id) is not state:
            return  # a retry has the same id
        del self._started[task_id]
        if error is None:
            return
        result, context = self._by_worker(request), new_context(request)
        self._start_later(
            task_id, partial(self._store_again, task_id, result, states.STARTED, None, context)
        )

    def _store_again(self, task_id: str, result: object, state: str, *rest: Any) -> None:
        meta = self._get_result_meta(result, state, *rest)
        command = self._command(task_id, state, meta) if self._may_script else None
        self._store(command, partial(self._store_result, task_id, result, state, *rest))

    def encode_started(self, request: LeanRequest) -> bytes:
        """What is stored for a task that has started."""
        return self._encoded(request, states.STARTED, self._by_worker(request), [], None)

    def _by_worker(self, request: LeanRequest) -> dict[str, object]:
        return {"pid": self._pid, "hostname": request.hostname}

    def _encoded(
        self,
        request: LeanRequest,
        status: str,
        result: object,
        children: list[object],
        date_done: str | None,
    ) -> bytes:
        known = request.headers
        meta: dict[str, object] = {
            "status": status,
            "result": result,
            "traceback": None,
            "children": children,
            "date_done": date_done,
        }
        if known.get("group"):
            meta["group_id"] = known["group"]
        if known.get("parent_id"):
            meta["parent_id"] = known["parent_id"]
        meta["task_id"] = request.id
        return dumps(meta)

    def _store(self, command: Command | None, plainly: Callable[[], object]) -> None:
        if command is None or not self._has_stored(await_here(self._batches.begin(command))):
            plainly()

    def _command(self, task_id: str, state: str, meta: dict[str, object]) -> Command | None:
        """One command for Celery's three, of which two need the answer to the first."""
        key, value = self.get_key_for_task(task_id), self.encode({**meta, "task_id": task_id})
        if len(value) > self._MAX_STR_VALUE_SIZE:
            return None
        expires = self.failure_expires if state == states.FAILURE else self.expires
        return ("EVAL", STORE, 1, key, expires or 0, self._since(state), value)

    def _since(self, state: str) -> int | str:
        """Which ends of the task the state must not hide, as the script `STORE` takes it."""
        if state == PROGRESS:
            # A report that was delayed must not hide how the task ended.
            return 1
        place = here() if state == states.RETRY else None
        if place is None or place.begun is None:
            return 0
        # Its message was sent before this. The next run may have ended already.
        return self._clock.at(place.begun)

    def _has_stored(self, answers: list[object]) -> bool:
        [answer] = answers
        if is_forbidden(answer):
            self._may_script = False
            return False
        if isinstance(answer, Exception):
            raise answer
        return stored_ones(answer) == [True]

    def _on_started(
        self,
        task_id: str,
        again: Callable[[], None],
        answers: asyncio.Future[list[object]],
    ) -> None:
        if self._started.get(task_id) is not answers:
            return
        del self._started[task_id]
        if answers.cancelled():
            return
        if answers.exception() is None and list(map(stored_ones, answers.result())) == [[True]]:
            return
        self._start_later(task_id, again)

    def _start_later(self, task_id: str, again: Callable[[], None]) -> None:
        later = self._started[task_id] = self._store_later(again)
        later.add_done_callback(partial(self._on_stored_later, task_id))

    def _on_stored_later(self, task_id: str, task: asyncio.Task[None]) -> None:
        if self._started.get(task_id) is task:
            del self._started[task_id]

    def _overtake_started(self, task_id: str) -> None:
        """Drop the STARTED write of a task before a later state is stored."""
        started = self._started.pop(task_id, None)
        if started is not None:
            started.cancel()

    @override
    def get(self, key: str) -> object:
        [value] = self._execute(("GET", key))
        return value

    @override
    def set(self, key: str, value: str | bytes, expires: int | None = None, **_: object) -> None:
        if isinstance(value, str) and len(value) > self._MAX_STR_VALUE_SIZE:
            raise BackendStoreError("value too large for Redis backend")
        expires = self.expires if expires is None else expires
        store = ("SETEX", key, expires, value) if expires else ("SET", key, value)
        self._execute(store, ("PUBLISH", key, value))

    @override
    def on_chord_part_return(self, *args: object, **kwargs: object) -> None:
        # It blocks several times, and publishes the chord's body in between.
        self._chord_part(*args, **kwargs)

    async def close(self) -> None:
        """Close the connections."""
        await self._batches.close()

    def _execute(self, *commands: Command) -> list[object]:
        answers = await_here(self._batches.run(*commands))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

"""Resources: providers, started, stopped and entered together."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from typing_extensions import override

from tomskit.errors import ConfigurationError, ProviderError
from tomskit.resources import Resources


class Recorder:
    """A provider that notes what happens to it, and raises what it is told to."""

    def __init__(
        self,
        name: str,
        events: list[str],
        *,
        on_startup: BaseException | None = None,
        on_shutdown: BaseException | None = None,
        on_enter: BaseException | None = None,
        on_leave: BaseException | None = None,
    ) -> None:
        self.name = name
        self.events = events
        self.on_startup = on_startup
        self.on_shutdown = on_shutdown
        self.on_enter = on_enter
        self.on_leave = on_leave

    async def startup(self) -> None:
        self._do("started", self.on_startup)

    async def shutdown(self) -> None:
        self._do("stopped", self.on_shutdown)

    def task_scope(self) -> AbstractAsyncContextManager[None]:
        return self._scope()

    @asynccontextmanager
    async def _scope(self) -> AsyncGenerator[None]:
        self._do("entered", self.on_enter)
        try:
            yield
        except BaseException as exc:
            self.events.append(f"{self.name} saw {exc!r}")
            if self.on_leave is not None:
                raise self.on_leave from None
            raise
        self._do("left", self.on_leave)

    def _do(self, what: str, error: BaseException | None) -> None:
        if error is not None:
            raise error
        self.events.append(f"{self.name} {what}")


async def answer(events: list[str]) -> int:
    events.append("task")
    return 42


async def fail(error: BaseException) -> None:
    raise error


def run(coro: Coroutine[Any, Any, object]) -> object:
    return asyncio.run(coro)


def test_two_providers_of_the_same_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'twice'"):
        Resources([Recorder("twice", []), Recorder("once", []), Recorder("twice", [])])


def test_only_leaves_out_the_named_providers() -> None:
    resources = Resources([Recorder(name, []) for name in "abc"])

    assert [provider.name for provider in resources.only(without=["b", "x"]).providers] == [
        "a",
        "c",
    ]
    assert len(resources.providers) == 3


def test_providers_start_in_order_and_stop_in_reverse() -> None:
    events: list[str] = []

    async def main() -> None:
        resources = Resources([Recorder("a", events), Recorder("b", events)])
        await resources.start()
        await resources.stop()

    run(main())

    assert events == ["a started", "b started", "b stopped", "a stopped"]


def test_a_failing_startup_names_its_provider_and_stops_those_before() -> None:
    events: list[str] = []
    broken = OSError("no such host")
    resources = Resources(
        [
            Recorder("a", events),
            Recorder("b", events),
            Recorder("bad", events, on_startup=broken),
            Recorder("c", events),
        ]
    )

    with pytest.raises(ProviderError, match=r"'bad' did not start: OSError\('no such host'\)") as (
        caught
    ):
        run(resources.start())

    assert caught.value.provider == "bad"
    assert caught.value.__cause__ is broken
    assert events == ["a started", "b started", "b stopped", "a stopped"]


def test_a_cancelled_start_stays_a_cancellation() -> None:
    events: list[str] = []
    cancelled = asyncio.CancelledError()
    resources = Resources([Recorder("a", events), Recorder("b", events, on_startup=cancelled)])

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError) as caught:
            await resources.start()
        assert caught.value is cancelled

    run(main())

    assert events == ["a started", "a stopped"]


def test_an_error_of_stopping_is_logged_and_the_others_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[str] = []
    resources = Resources(
        [Recorder("a", events), Recorder("bad", events, on_shutdown=OSError("hung up"))]
    )

    run(resources.stop())

    assert events == ["a stopped"]
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "'bad' did not stop cleanly" in caplog.text
    assert "hung up" in caplog.text


def test_a_provider_that_does_not_stop_in_time_is_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(Recorder):
        @override
        async def shutdown(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("tomskit.resources.SHUTDOWN_SECONDS", 0.01)
    events: list[str] = []

    run(Resources([Recorder("a", events), Hanging("hanging", events)]).stop())

    assert events == ["a stopped"]
    assert "'hanging' did not stop cleanly" in caplog.text


def test_run_starts_and_stops_around_a_call_where_nobody_has_started() -> None:
    events: list[str] = []
    resources = Resources([Recorder("a", events)])

    assert run(resources.run(answer(events))) == 42

    assert events == ["a started", "a entered", "task", "a left", "a stopped"]


def test_run_only_enters_the_scopes_where_the_loop_was_started() -> None:
    events: list[str] = []

    async def main() -> None:
        resources = Resources([Recorder("a", events)])
        await resources.start()
        events.clear()
        await resources.run(answer(events))
        await resources.stop()
        await resources.run(answer(events))

    run(main())

    assert events == [
        *("a entered", "task", "a left", "a stopped"),
        *("a started", "a entered", "task", "a left", "a stopped"),
    ]


def test_run_stops_after_a_task_that_failed() -> None:
    events: list[str] = []
    resources = Resources([Recorder("a", events)])

    with pytest.raises(LookupError):
        run(resources.run(fail(LookupError("x"))))

    assert events[-1] == "a stopped"


def test_loops_do_not_share_what_was_started() -> None:
    events: list[str] = []
    resources = Resources([Recorder("a", events)])

    async def other_loop() -> None:
        await resources.start()
        await asyncio.to_thread(run, resources.run(answer(events)))

    run(other_loop())

    assert events.count("a started") == 2


def test_scopes_are_entered_in_order_and_left_in_reverse() -> None:
    events: list[str] = []
    resources = Resources([Recorder("a", events), Recorder("b", events)])

    assert run(resources.scoped(answer(events))) == 42

    assert events == ["a entered", "b entered", "task", "b left", "a left"]


def test_the_scopes_see_what_the_task_raised_and_it_is_raised() -> None:
    events: list[str] = []
    error = LookupError("x")
    resources = Resources([Recorder("a", events), Recorder("b", events)])

    with pytest.raises(LookupError) as caught:
        run(resources.scoped(fail(error)))

    assert caught.value is error
    assert events[2:] == ["b saw LookupError('x')", "a saw LookupError('x')"]


def test_a_scope_that_swallows_the_error_does_not_change_the_outcome() -> None:
    class Swallowing(Recorder):
        @override
        @asynccontextmanager
        async def _scope(self) -> AsyncGenerator[None]:
            try:
                yield
            except LookupError:
                self.events.append("swallowed")

    events: list[str] = []

    with pytest.raises(LookupError):
        run(Resources([Swallowing("a", events)]).scoped(fail(LookupError("x"))))

    assert events == ["swallowed"]


def test_an_error_of_leaving_is_logged_and_does_not_hide_that_of_the_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[str] = []
    resources = Resources(
        [Recorder("a", events), Recorder("bad", events, on_leave=OSError("rollback failed"))]
    )

    with pytest.raises(LookupError):
        run(resources.scoped(fail(LookupError("x"))))

    assert events[-1] == "a saw LookupError('x')"
    [record] = caplog.records
    assert record.getMessage() == (
        "The resource provider 'bad' failed to clean up after a task that raised LookupError('x')"
    )
    assert "rollback failed" in caplog.text


def test_a_scope_that_raises_the_tasks_own_error_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Scope(AbstractAsyncContextManager[None]):
        @override
        async def __aexit__(self, _: object, exc: BaseException | None, traceback: object) -> None:
            if exc is not None:
                raise exc

    class Reraising(Recorder):
        @override
        def task_scope(self) -> AbstractAsyncContextManager[None]:
            return Scope()

    with pytest.raises(LookupError):
        run(Resources([Reraising("a", [])]).scoped(fail(LookupError("x"))))

    assert caplog.records == []


def test_an_error_of_leaving_after_success_is_raised_and_seen_by_the_outer_scopes() -> None:
    events: list[str] = []
    resources = Resources(
        [Recorder("a", events), Recorder("bad", events, on_leave=OSError("commit failed"))]
    )

    with pytest.raises(OSError, match="commit failed"):
        run(resources.scoped(answer(events)))

    assert events[-1] == "a saw OSError('commit failed')"


def test_a_scope_that_cannot_be_entered_leaves_those_before_and_runs_no_task() -> None:
    events: list[str] = []
    resources = Resources([Recorder("a", events), Recorder("bad", events, on_enter=OSError("x"))])
    task = answer(events)

    with pytest.raises(OSError, match="x"):
        run(resources.scoped(task))
    task.close()

    assert events == ["a entered", "a saw OSError('x')"]

"""``every=``: what becomes an entry of the schedule, and what is refused."""

import logging
import math
import pickle
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from celery import Celery
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import crontab, schedule

from tests.support.settings import MakeApp
from tomskit.celery import AsyncCelery, BoundTask, CeleryConfig, async_shared_task

numbers = count()


def untyped(found: object) -> Any:
    return found


async def nothing() -> None: ...
async def with_defaults(days: int = 3, *args: int, hours: int = 1, **more: int) -> None: ...
async def bound(self: BoundTask, days: int = 3) -> None: ...
async def needy(days: int, *, hours: int, minutes: int = 1) -> None: ...


def schedule_of(app: Celery) -> dict[str, Any]:
    app.finalize()
    return dict(app.conf.beat_schedule)


def entry_of(app: Celery, name: str) -> ScheduleEntry:
    """The entry as beat has it."""
    app.finalize()
    entries: dict[str, ScheduleEntry] = untyped(Scheduler)(app).schedule
    return entries[name]


@pytest.mark.parametrize(
    "every",
    [30, 0.5, timedelta(hours=3), crontab(hour="3"), schedule(run_every=5.0)],
    ids=["seconds", "part of a second", "timedelta", "crontab", "schedule"],
)
def test_becomes_an_entry_under_the_name_of_the_task(make_app: MakeApp, every: Any) -> None:
    app = make_app()
    name = f"periodic.{next(numbers)}"
    app.task(name=name, every=every)(nothing)

    assert schedule_of(app) == {name: {"task": name, "schedule": every}}
    assert untyped(entry_of(app, name)).task == name


def test_solar_schedule(make_app: MakeApp) -> None:
    solar = pytest.importorskip("celery.schedules").solar
    pytest.importorskip("ephem")
    app = make_app()
    every = solar("sunset", -37.8, 144.9)
    app.task(name="periodic.solar", every=every)(nothing)

    assert schedule_of(app)["periodic.solar"]["schedule"] is every


def test_of_every_decorator_and_kind_of_function(make_app: MakeApp) -> None:
    app = make_app()

    @app.task(name="periodic.plain", every=5)
    def plain() -> None: ...

    async_shared_task(name="periodic.shared", every=5)(nothing)
    async_shared_task(name="periodic.defaults", every=5)(with_defaults)
    async_shared_task(name="periodic.bound", bind=True, every=5)(bound)
    app.task(name="periodic.bound_of_app", bind=True, every=5)(bound)

    assert {name for name in schedule_of(app) if name.startswith("periodic.")} == {
        "periodic.plain",
        "periodic.shared",
        "periodic.defaults",
        "periodic.bound",
        "periodic.bound_of_app",
    }


def test_in_a_plain_app() -> None:
    async_shared_task(name="periodic.foreign", every=5)(nothing)
    app = Celery("plain", broker="memory://", set_as_current=False)

    assert schedule_of(app)["periodic.foreign"] == {"task": "periodic.foreign", "schedule": 5}


def test_is_there_before_the_app_is_complete(make_app: MakeApp) -> None:
    before, configured = make_app(), make_app()
    assert configured.conf.beat_schedule == {}

    async_shared_task(name="periodic.before", every=5)(nothing)
    async_shared_task(every=6)(with_defaults)
    for app in (before, configured):
        app.task(name="periodic.own", every=7)(nothing)

    for app in (before, configured):
        assert not app.finalized
        assert {name: entry["schedule"] for name, entry in app.conf.beat_schedule.items()} == {
            "periodic.before": 5,
            f"{__name__}.with_defaults": 6,
            "periodic.own": 7,
        }
        assert not app.finalized


def test_schedule_of_one_app_is_not_that_of_another(make_app: MakeApp) -> None:
    first, second = make_app(), make_app()
    first.task(name="periodic.of_first", every=5)(nothing)

    assert "periodic.of_first" in schedule_of(first)
    assert "periodic.of_first" not in schedule_of(second)


def test_schedule_of_the_configuration_stays(make_app: MakeApp) -> None:
    mine = {"mine": {"task": "x", "schedule": 1.0}}
    app = make_app(CeleryConfig(CELERY_BEAT_SCHEDULE=untyped(mine)))
    app.task(name="periodic.beside", every=5)(nothing)

    assert set(schedule_of(app)) == {"mine", "periodic.beside"}


def test_schedule_that_is_set_later_has_it_too(make_app: MakeApp) -> None:
    app = make_app()
    app.task(name="periodic.early", every=5)(nothing)
    app.finalize()
    app.conf.beat_schedule = {"mine": {"task": "x", "schedule": 1.0}}

    # As beat does before it reads the schedule.
    assert set(schedule_of(app)) == {"mine", "periodic.early"}


def test_entry_of_the_configuration_holds(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    mine = {"task": "periodic.both", "schedule": 1.0, "args": [1]}
    app = make_app(beat_schedule={"periodic.both": mine})
    app.task(name="periodic.both", every=5)(with_defaults)

    with caplog.at_level(logging.WARNING):
        assert schedule_of(app) == {"periodic.both": mine}
        schedule_of(app)

    assert caplog.text.count("beat_schedule has an entry 'periodic.both' of its own") == 1


def test_entry_has_the_queue_of_the_task(make_app: MakeApp) -> None:
    app = make_app(broker="memory://")
    app.task(name="periodic.routed", queue="slow", every=5)(nothing)
    entry: Any = entry_of(app, "periodic.routed")
    with app.connection_for_write() as connection:
        untyped(connection).default_channel.queue_declare("slow")
        untyped(Scheduler)(app).apply_async(entry)

        assert connection.SimpleQueue("slow").get(timeout=60).headers["task"] == "periodic.routed"


def test_app_that_is_pickled_keeps_its_schedule(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    for every in (30, timedelta(hours=3), crontab(hour="3"), schedule(run_every=5.0)):
        async_shared_task(name=f"periodic.pickled.{next(numbers)}", every=every)(nothing)
    app = make_app()
    expected = schedule_of(app)

    with caplog.at_level(logging.WARNING):
        copy: AsyncCelery = pickle.loads(pickle.dumps(app))
        assert schedule_of(copy) == expected

    assert len(expected) == 4
    assert caplog.text == ""


REFUSED: dict[str, tuple[object, type[Exception], str]] = {
    "zero": (0, ValueError, "longer than 0"),
    "negative": (-1.5, ValueError, "longer than 0"),
    "not a number": (math.nan, ValueError, "longer than 0"),
    "infinite": (math.inf, ValueError, "longer than 0"),
    "no time": (timedelta(0), ValueError, "longer than 0"),
    "negative timedelta": (timedelta(seconds=-1), ValueError, "longer than 0"),
    "schedule without a time": (schedule(run_every=0.0), ValueError, "longer than 0"),
    "schedule without an interval": (schedule(), ValueError, "run_every is None"),
    "number beyond the calendar": (1e30, ValueError, "longer than 1000 years"),
    "timedelta beyond the calendar": (timedelta.max, ValueError, "longer than 1000 years"),
    "bool": (True, TypeError, "is not a schedule: give seconds"),
    "text": ("5", TypeError, "is not a schedule: give seconds"),
    "class": (crontab, TypeError, "is not a schedule: give seconds"),
}


@pytest.mark.parametrize(("every", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_is_refused_at_decoration(
    app: AsyncCelery, every: object, error: type[Exception], message: str
) -> None:
    for decorator in (async_shared_task, app.task):
        with pytest.raises(error, match=f"refused.*{message}"):
            untyped(decorator)(name="periodic.refused", every=every)(nothing)


def plain_needy(days: int) -> int:
    return days


@pytest.mark.parametrize(("function", "needed"), [(needy, "days, hours"), (plain_needy, "days")])
def test_function_that_needs_an_argument_is_refused(
    app: AsyncCelery, function: Callable[..., object], needed: str
) -> None:
    with pytest.raises(TypeError, match=f"needs {needed}: give each a default"):
        untyped(app).task(name="periodic.needy", every=5)(function)

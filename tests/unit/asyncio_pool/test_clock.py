"""The time, as it is stored with results."""

from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

from tests.support.contracts import untyped
from tomskit.celery.asyncio_pool.clock import Clock


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/St_Johns"])
def test_the_time_is_that_of_the_app(zone: str) -> None:
    with Celery("tests", set_as_current=False, backend="cache+memory://") as app:
        untyped(app.conf).timezone = zone
        shown = datetime.fromisoformat(Clock(app).now())
        celerys = datetime.fromisoformat(app.now().isoformat())
        assert shown.utcoffset() == celerys.utcoffset()
        assert abs(celerys - shown) < timedelta(minutes=1)


def test_times_of_a_second_are_those_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the second in which the summer ends, and in two time zones in turn."""
    now = 0.0
    monkeypatch.setattr("time.time", lambda: now)
    apps = [
        Celery("tests", set_as_current=False, backend="cache+memory://", timezone=zone)
        for zone in ("Europe/Berlin", "UTC")
    ]
    clocks = [Clock(app) for app in apps]
    ends_at = datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp()
    for moment in (ends_at - 1, ends_at - 0.25, ends_at, ends_at + 0.000001, ends_at + 0.999999):
        now = moment
        for app, clock in zip(apps, clocks, strict=True):
            shown = clock.now()
            expected = datetime.fromtimestamp(now, app.timezone)
            assert abs(datetime.fromisoformat(shown) - expected) <= timedelta(microseconds=1)
            assert shown[-6:] == expected.isoformat()[-6:]
            assert len(shown) == len("2026-10-25T01:00:00.000000+00:00")
    for app in apps:
        app.close()

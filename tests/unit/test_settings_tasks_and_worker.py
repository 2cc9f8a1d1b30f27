"""CeleryConfig's tasks and worker: lists, time zones and time limits."""

import pytest
from pydantic import ValidationError

from tests.support.settings import MakeApp, settings_of
from tomskit.celery import CeleryConfig


@pytest.mark.parametrize("spelling", ["json, pickle", '["json", "pickle"]'])
def test_a_list_in_the_environment_is_separated_by_commas(
    spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_ACCEPT_CONTENT", spelling)
    assert CeleryConfig().CELERY_ACCEPT_CONTENT == ["json", "pickle"]


@pytest.mark.parametrize("name", ["UTC", "utc", "Europe/Berlin"])
def test_a_time_zone_that_exists_is_taken(name: str, make_app: MakeApp) -> None:
    assert settings_of(make_app(CeleryConfig(CELERY_TIMEZONE=name)))["timezone"] == name


@pytest.mark.parametrize("soft", [5, 4.5])
def test_a_soft_limit_may_be_as_long_as_the_hard_one(soft: float) -> None:
    config = CeleryConfig(CELERY_TASK_TIME_LIMIT=5, CELERY_TASK_SOFT_TIME_LIMIT=soft)
    assert soft == config.CELERY_TASK_SOFT_TIME_LIMIT


@pytest.mark.parametrize("amount", [0, -1, "many"])
def test_a_fetch_takes_some_bytes(amount: object) -> None:
    with pytest.raises(ValidationError, match="CELERY_FETCH_BYTES"):
        CeleryConfig.model_validate({"CELERY_FETCH_BYTES": amount})

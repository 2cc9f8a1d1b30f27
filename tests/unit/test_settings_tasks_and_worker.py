"""CeleryConfig's tasks and worker: lists, time zones and time limits."""

import re
from pathlib import Path

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


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("CELERY_TASK_COMPRESSION", "banana", "only gzip, bzip2"),
        ("CELERY_RESULT_COMPRESSION", "banana", "only gzip, bzip2"),
        ("CELERY_WORKER_LOG_FORMAT", "%(message", "fields of Python's log records"),
        ("CELERY_WORKER_TASK_LOG_FORMAT", "plain text", "fields of Python's log records"),
        ("CELERY_TASK_DEFAULT_RATE_LIMIT", "nan", "such as 5, 5/s"),
        ("CELERY_TASK_DEFAULT_RATE_LIMIT", "-1/m", "such as 5, 5/s"),
        ("CELERY_TASK_ROUTES", '{"shop.*": {"queeu": "shop"}}', "'queeu': did you mean 'queue'?"),
        ("CELERY_TASK_ROUTES", "5", "as JSON"),
        ("CELERY_BEAT_ENTRIES", '{"daily": {"tsk": "report"}}', "'tsk': did you mean 'task'?"),
        ("CELERY_BEAT_ENTRIES", '{"daily": {"task": "report"}}', "'daily' has no schedule"),
        ("CELERY_BEAT_ENTRIES", '{"daily": {}}', "'daily' has no task and no schedule"),
        ("CELERY_TASK_ACKS_LATE", "maybe", "should be true or false"),
        ("CELERY_SQLALCHEMY_DATABASE_URI_SCHEME", "sqlite://", "such as postgresql+asyncpg"),
        (
            "CELERY_BROKER_URL",
            "redsi://shop",
            "  kombu knows no such transport: did you mean redis://?",
        ),
        ("CELERY_BROKER_URL", "mysql://shop", "one of amqp, amqps"),
        ("CELERY_RESULT_BACKEND", "reddiss://shop", "did you mean rediss://?"),
        ("CELERY_WORKER_CONCURRENCY", "many", "  Input should be a whole number; it is set"),
        (
            "CELERY_WORKER_MAX_MEMORY_PER_CHILD",
            "1.5",
            "  Input should be a whole number; it is set",
        ),
        ("CELERY_TASK_TIME_LIMIT", "1h", "  Input should be a number; it is set"),
    ],
)
def test_what_celery_would_find_out_later_is_refused_with_what_is_allowed(
    name: str, text: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, text)

    with pytest.raises(ValidationError) as caught:
        CeleryConfig()

    assert name in str(caught.value)
    assert allowed in str(caught.value)
    assert re.search(r"(; it|\? It) is set in the environment \[", str(caught.value))
    assert "Value error" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CELERY_TASK_COMPRESSION", "bzip2"),
        ("CELERY_RESULT_COMPRESSION", "gzip"),
        ("CELERY_WORKER_LOG_FORMAT", "%(levelname)s %(message)s"),
        ("CELERY_TASK_DEFAULT_RATE_LIMIT", "0"),
        ("CELERY_TASK_ROUTES", '{"shop.*": {"queue": "shop", "MessageGroupId": "5"}}'),
        ("CELERY_BEAT_ENTRIES", '{"daily": {"task": "report", "schedule": 5, "enabled": false}}'),
    ],
)
def test_what_celery_takes_is_taken(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, text)

    assert name in CeleryConfig().model_fields_set


def test_settings_that_exclude_each_other_are_named_with_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "limits.env"
    file.write_text("CELERY_TASK_TIME_LIMIT=5\n")
    monkeypatch.setenv("TOMSKIT_ENV_FILE", str(file))
    monkeypatch.setenv("CELERY_TASK_SOFT_TIME_LIMIT", "9")

    with pytest.raises(ValidationError) as caught:
        CeleryConfig()

    said = str(caught.value)
    assert "CELERY_TASK_SOFT_TIME_LIMIT is set in the environment" in said
    assert f"CELERY_TASK_TIME_LIMIT is set in {file}" in said


def test_a_spawned_process_has_longer_to_start(make_app: MakeApp) -> None:
    name = "worker_proc_alive_timeout"
    assert settings_of(make_app(CeleryConfig()))[name] == 4.0
    spawning = CeleryConfig(CELERY_WORKER_POOL_START_METHOD="spawn")
    assert settings_of(make_app(spawning))[name] == 60.0
    app = make_app(spawning)
    app.conf.update({name: 7.0})
    assert settings_of(app)[name] == 7.0

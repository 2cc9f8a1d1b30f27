"""Environment variables: which Celery reads for a purpose of its own, and which nothing reads."""

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
from celery.bin.celery import celery
from pydantic import ValidationError

from tests.support.settings import MakeApp, build, command_options
from tomskit import TomsKitBaseSettings
from tomskit.celery import CeleryConfig
from tomskit.redis import RedisConfig
from tomskit.settings import SettingsWarning
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.variables import misspelt

ENTRIES = {"daily": {"task": "report", "schedule": 86400}}
JSON = '{"daily": {"task": "report", "schedule": 86400}}'

# What an option of the command line means, and our setting of the same variable means as well.
THE_SAME = {
    "CELERY_RESULT_BACKEND",
    "CELERY_WORKER_CONCURRENCY",
    "CELERY_WORKER_MAX_MEMORY_PER_CHILD",
    "CELERY_WORKER_MAX_TASKS_PER_CHILD",
    "CELERY_WORKER_POOL",
    "CELERY_WORKER_POOL_START_METHOD",
    "CELERY_WORKER_PREFETCH_MULTIPLIER",
}


def read_from(variable: str, text: str) -> set[str]:
    """The fields that a variable sets, in all configurations."""
    fields: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable, text)
        for config in (CeleryConfig, DatabaseConfig, RedisConfig):
            try:
                fields |= config().model_fields_set
            except ValidationError as refusal:
                fields |= {str(error["loc"][0]) for error in refusal.errors()}
    return fields


def test_no_variable_of_the_command_line_means_something_else_here() -> None:
    seen = {name for name, _ in command_options(celery, "CELERY")}
    assert len(seen) > 80
    assert {name for name in seen if read_from(name, "/run/a.file")} == THE_SAME


# -- beat's schedule


def test_the_file_of_beat_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BEAT_SCHEDULE", "/var/lib/beat.db")
    config = CeleryConfig()
    assert config.CELERY_BEAT_ENTRIES is None
    assert config.model_fields_set == set()


def test_entries_have_a_variable_of_their_own(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("CELERY_BEAT_ENTRIES", JSON)
    monkeypatch.setenv("CELERY_BEAT_SCHEDULE", "/var/lib/beat.db")
    config = CeleryConfig()
    assert config.CELERY_BEAT_SCHEDULE == config.CELERY_BEAT_ENTRIES == ENTRIES
    assert make_app(config).conf.beat_schedule == ENTRIES


@pytest.mark.parametrize("name", ["CELERY_BEAT_ENTRIES", "CELERY_BEAT_SCHEDULE"])
def test_either_name_may_be_an_argument(name: str, make_app: MakeApp) -> None:
    app = make_app(build(**{name: ENTRIES}))
    assert app.conf.beat_schedule == ENTRIES
    assert app.config.CELERY_BEAT_SCHEDULE == ENTRIES


def test_entries_under_the_old_variable_are_read_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_BEAT_SCHEDULE", JSON)
    with pytest.warns(SettingsWarning, match="call it CELERY_BEAT_ENTRIES"):
        config = CeleryConfig()
    assert config.CELERY_BEAT_ENTRIES == ENTRIES


def test_two_schedules_are_an_error() -> None:
    with pytest.raises(ValidationError, match="two names of one setting"):
        build(CELERY_BEAT_ENTRIES=ENTRIES, CELERY_BEAT_SCHEDULE={})


# -- variables that nothing reads


@pytest.fixture(params=["environment", "file"])
def give(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Sets a variable in the environment, or in the file."""

    def set_variable(name: str) -> None:
        if request.param == "environment":
            monkeypatch.setenv(name, "s3cret")
        else:
            monkeypatch.chdir(tmp_path)
            (tmp_path / ".env").write_text(f"{name}=s3cret\n")

    return set_variable


@pytest.mark.parametrize(
    ("make", "name", "remark"),
    [
        (CeleryConfig, "CELERY_BROKER_REDIS_PASWORD", "did you mean CELERY_BROKER_REDIS_PASSWORD?"),
        (CeleryConfig, "CELERY_TASK_TIMELIMIT", "did you mean CELERY_TASK_TIME_LIMIT?"),
        (CeleryConfig, "CELERY_WORKER_CONCURENCY", "did you mean CELERY_WORKER_CONCURRENCY?"),
        (CeleryConfig, "CELERY_RESULT_BACKEND_URL", "did you mean CELERY_RESULT_BACKEND"),
        (CeleryConfig, "CELERY_WORKER_TIMER_PRECISION", "worker_timer_precision of Celery"),
        (DatabaseConfig, "DB_USER", "did you mean DB_USERNAME?"),
        (DatabaseConfig, "SQLALCHEMY_DATABASE_URL", "did you mean SQLALCHEMY_DATABASE_URI?"),
        (RedisConfig, "REDIS_PASS", "did you mean REDIS_PASSWORD?"),
        (RedisConfig, "REDIS_USES_CLUSTER", "did you mean REDIS_USE_CLUSTER?"),
    ],
)
def test_a_misspelt_variable_is_a_warning_that_names_the_nearest(
    make: Callable[[], TomsKitBaseSettings],
    name: str,
    remark: str,
    give: Callable[[str], None],
) -> None:
    gc.collect()  # classes of other tests, whose fields would be known
    give(name)
    with pytest.warns(SettingsWarning) as caught:
        make()
    assert len(caught) == 1
    assert f"{name} ({remark}" in str(caught[0].message)
    assert "s3cret" not in str(caught[0].message)


@pytest.mark.parametrize(
    "name",
    [
        "CELERY_WORKER_LOGLEVEL",
        "CELERY_WORKER_SCHEDULE_FILENAME",
        "CELERY_WORKER_HOSTNAME",
        "CELERY_BEAT_SCHEDULER",
        "CELERY_LOG_LEVEL",
        "CELERY_SOMETHING_ELSE",
        "REDIS_PORT_6379_TCP_ADDR",
        "REDIS_SERVICE_HOST",
        "DB_SERVICE_PORT",
        "SQLALCHEMY_WARN_20",
        "OTHER_CELERY_TASK_TIMELIMIT",
    ],
)
def test_variables_of_others_are_no_warning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    CeleryConfig()
    DatabaseConfig()
    RedisConfig()


def test_fields_of_a_subclass_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(CeleryConfig):
        CELERY_TASK_TIMELIMIT: int = 0

    monkeypatch.setenv("CELERY_TASK_TIMELIMIT", "3")
    assert Mine().CELERY_TASK_TIMELIMIT == 3
    CeleryConfig()


def test_only_names_with_a_prefix_are_looked_at() -> None:
    assert misspelt(["A_B", "X_HOST", "A_HOST"], ["A_"], ["A_HOSTS", "A_B"]) == {
        "A_HOST": "A_HOSTS"
    }


@pytest.mark.parametrize("name", ["celery_broker_redis_host", "Celery_Broker_Redis_Host"])
def test_a_variable_in_lower_case_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "redis")
    with pytest.warns(SettingsWarning, match=f"{name} .did you mean CELERY_BROKER_REDIS_HOST"):
        config = CeleryConfig()
    assert config.CELERY_BROKER_REDIS_HOST == "localhost"


def test_a_line_in_lower_case_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("db_host=mysql\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(SettingsWarning, match=r"db_host .did you mean DB_HOST"):
        DatabaseConfig()


@pytest.mark.filterwarnings("error")
def test_variables_in_lower_case_that_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("redis_something", "tomskit_env_file", "celery_broker_redis_host"):
        monkeypatch.setenv(name, "redis")
    monkeypatch.setenv("CELERY_BROKER_REDIS_HOST", "redis")
    assert CeleryConfig().CELERY_BROKER_REDIS_HOST == "redis"


@pytest.mark.filterwarnings("error")
def test_a_class_may_read_variables_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lenient(CeleryConfig, case_sensitive=False): ...

    monkeypatch.setenv("celery_broker_redis_host", "redis")
    assert Lenient().CELERY_BROKER_REDIS_HOST == "redis"

"""The fixtures of the pytest plugin, used as a project uses them."""

import os

import pytest

from tests.support.patience import patience
from tests.support.warm_start import WarmProcess

pytest_plugins = ["pytester"]

TASKS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tomskit.celery import async_shared_task
from tomskit.sqlalchemy.database import db


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@async_shared_task
async def create_user(name: str) -> int:
    user = User(name=name)
    db.session.add(user)
    await db.session.commit()
    await greet.adelay(name)
    return user.id


@async_shared_task
async def greet(name: str) -> str:
    return f"Hello {name}"


@async_shared_task(once=True)
async def invite(name: str) -> int:
    user = User(name=name)
    db.session.add(user)
    await db.session.flush()
    greet.delay_on_commit(name)
    return user.id
"""

CONFTEST = """
import pytest
import tasks


@pytest.fixture
def tomskit_metadata():
    return tasks.Base.metadata
"""

TESTS = """
import asyncio

import pytest
from sqlalchemy import func, select
from tasks import User, create_user, greet, invite

from tomskit.celery import AsyncRuntime
from tomskit.sqlalchemy.database import db
from tomskit.testing import task_scope


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_database(tomskit_sent, turn):
    assert AsyncRuntime.run(create_user.func("Ada")) == 1
    (message,) = tomskit_sent
    assert (message.name, message.args) == (greet.name, ("Ada",))


def test_async_code(tomskit_app, tomskit_sent):
    async def test():
        async with task_scope(tomskit_app):
            assert await create_user.func("Grace") == 1
            assert await db.session.scalar(select(func.count()).select_from(User)) == 1

    asyncio.run(test())


@pytest.mark.parametrize("turn", [1, 2])
def test_a_worker(tomskit_worker, turn):
    assert greet.delay("Ada").get(timeout=60) == "Hello Ada"
    assert create_user.delay("Ada").get(timeout=60) == 1


def test_a_task_that_runs_once(tomskit_worker):
    assert [invite.options(task_id="one").delay("Ada").get(timeout=60) for _ in range(2)] == [1, 1]


def test_what_nobody_ran_is_gone(tomskit_app):
    greet.delay("nobody")


def test_a_worker_after_it(tomskit_worker, tomskit_app):
    assert greet.delay("Ada").get(timeout=60) == "Hello Ada"
    with tomskit_app.connection_for_read() as connection:
        assert connection.SimpleQueue("celery").qsize() == 0
"""


OWN_APP = """
import pytest
from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.testing import running

app = AsyncCelery("shop", config=CeleryConfig(), set_as_current=False)


@app.task
async def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def tomskit_app():
    with running(app):
        yield app


def test_what_is_sent(tomskit_sent):
    double.delay(2)
    assert [message.args for message in tomskit_sent] == [(2,)]


def test_a_worker(tomskit_worker):
    assert double.delay(2).get(timeout=60) == 4
"""


def run_tests(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the tests of a project with the plugin, in a process of their own."""
    process = WarmProcess(
        "pytest",
        [
            *("-p", "tomskit.testing.plugin", "-p", "no:cacheprovider"),
            *(f"--basetemp={project.path / 'temporary'}", *arguments),
        ],
        environment=os.environ,
        folder=project.path,
        last_signal="KILL",
    )
    lines = process.communicate(patience(120))[0].splitlines()
    print(*lines, sep="\n")
    return pytest.RunResult(process.wait(), lines, [], 0.0)


def test_the_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(tasks=TASKS, test_tasks=TESTS)
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\n")

    result = run_tests(pytester)

    result.assert_outcomes(passed=8)


ELSEWHERE = "redis://127.0.0.1:1/0"
"""Nobody listens there."""


@pytest.mark.parametrize(
    "environment",
    [
        {"CELERY_BROKER_URL": ELSEWHERE, "CELERY_RESULT_BACKEND": ELSEWHERE},
        {"CELERY_BROKER_READ_URL": ELSEWHERE, "CELERY_BROKER_WRITE_URL": ELSEWHERE},
        {"SQLALCHEMY_DATABASE_URI": "mysql+aiomysql://127.0.0.1:1/production"},
        {"DB_HOST": "127.0.0.1", "DB_PORT": "1", "CELERY_DB_DATABASE": "production"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_tests_never_use_the_servers_of_the_application(
    pytester: pytest.Pytester, environment: dict[str, str]
) -> None:
    pytester.makepyfile(tasks=TASKS, test_tasks=TESTS)
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nfilterwarnings = error::tomskit.settings.SettingsWarning\n")
    lines = [f"{name}={value}\n" for name, value in environment.items()]
    (pytester.path / ".env").write_text("".join(lines))

    result = run_tests(pytester, "-k", "database or after_it")

    result.assert_outcomes(passed=3, deselected=5)


def test_the_fixtures_use_an_app_of_the_project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(test_own=OWN_APP)
    pytester.makeini("[pytest]\n")
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "cache+memory://")

    result = run_tests(pytester)

    result.assert_outcomes(passed=2)

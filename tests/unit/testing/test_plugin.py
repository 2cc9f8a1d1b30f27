"""The fixtures of the pytest plugin, used as a project uses them."""

import pytest

from tests.support.patience import patience

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
from tasks import User, create_user, greet

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


def test_what_nobody_ran_is_gone(tomskit_app):
    greet.delay("nobody")


def test_a_worker_after_it(tomskit_worker, tomskit_app):
    assert greet.delay("Ada").get(timeout=60) == "Hello Ada"
    with tomskit_app.connection_for_read() as connection:
        assert connection.SimpleQueue("celery").qsize() == 0
"""


def test_the_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(tasks=TASKS, test_tasks=TESTS)
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\n")

    result = pytester.runpytest_subprocess(
        *("-p", "tomskit.testing.plugin", "-p", "no:cacheprovider"), timeout=patience(120)
    )

    result.assert_outcomes(passed=7)

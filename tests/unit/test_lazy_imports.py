"""What a program does not use, it does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

_CLIENT = """
    import sys
    from tomskit.celery import AsyncCelery, AsyncTaskRunner, CeleryConfig, async_shared_task
    from tomskit.sqlalchemy import DatabaseConfig

    config = CeleryConfig(CELERY_BROKER_URL="memory://", CELERY_RESULT_BACKEND="cache+memory://")
    app = AsyncCelery("shop", config=config, database=DatabaseConfig(DB_HOST="db.internal"))

    @async_shared_task(once=True)
    async def charge(order: int) -> None: ...

    charge.delay(order=1)
    charge.s(2).delay()
"""

_SESSION = """
    import asyncio
    from sqlalchemy import text
    from tomskit.celery import AsyncCelery, AsyncTaskRunner
    from tomskit.sqlalchemy import db

    app = AsyncCelery("shop")

    async def one() -> int:
        return (await db.session.execute(text("SELECT 1"))).scalar_one()

    assert AsyncTaskRunner(one).run() == 1
"""


def _imported(code: str, folder: Path) -> set[str]:
    """The names of the modules that a program has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", f"{dedent(code)}\nimport sys\nprint(*sys.modules)"],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            "PYTHONPATH": ":".join(sys.path),
            "SQLALCHEMY_DATABASE_URI_SCHEME": "sqlite+aiosqlite",
            "DB_DATABASE": str(folder / "test.db"),
        },
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def _below(modules: set[str], *packages: str) -> set[str]:
    return {one for one in modules if one.startswith(tuple(f"{name}." for name in packages))}


def test_the_package_loads_neither_sqlalchemy_nor_a_worker(tmp_path: Path) -> None:
    imported = _imported("import tomskit.celery", tmp_path)

    assert "tomskit.celery.app" in imported
    assert _below(imported, "sqlalchemy", "celery.worker", "celery.apps", "celery.bin") == set()
    assert _below(imported, "celery.concurrency", "tomskit.testing", "tomskit._commands") == set()


def test_a_program_that_only_sends_tasks_never_does(tmp_path: Path) -> None:
    imported = _imported(_CLIENT, tmp_path)

    assert _below(imported, "sqlalchemy", "tomskit.celery.asyncio_pool") == set()
    # Celery's own app loads one module of the worker, for Django.
    assert _below(imported, "celery.worker") <= {"celery.worker.worker", "celery.worker.state"}
    assert _below(imported, "tomskit.celery._worker") <= {
        f"tomskit.celery._worker.{name}" for name in ("logging", "signals", "supervised")
    }
    assert _below(imported, "tomskit.celery._outbox") <= {
        f"tomskit.celery._outbox.{name}" for name in ("commits", "databases")
    }


def test_a_session_loads_no_dialect_but_that_of_its_database(tmp_path: Path) -> None:
    imported = _imported(_SESSION, tmp_path)

    assert _below(imported, "sqlalchemy.dialects.sqlite")
    assert _below(imported, "sqlalchemy.dialects.mysql", "sqlalchemy.dialects.postgresql") == set()


def test_names_and_modules_of_the_package_are_found_without_an_import_of_their_own(
    tmp_path: Path,
) -> None:
    _imported(
        """
        import tomskit.sqlalchemy

        for name in tomskit.sqlalchemy.__all__:
            assert getattr(tomskit.sqlalchemy, name).__module__.startswith("tomskit.sqlalchemy")
        assert tomskit.sqlalchemy.tables.metadata.tables.keys() == {"tomskit_outbox", "tomskit_once"}
        assert tomskit.sqlalchemy.database.db is tomskit.sqlalchemy.db
        assert not hasattr(tomskit.sqlalchemy, "Databse")
        """,
        tmp_path,
    )

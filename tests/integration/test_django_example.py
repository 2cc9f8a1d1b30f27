"""The Django example, as its README says, with the real Django."""

import re
import shutil
from pathlib import Path

import pytest

from tests.support import recipes
from tests.support.servers import RedisDb
from tests.support.workers import PROJECT, Pool, Worker

EXAMPLE = PROJECT / "examples" / "django"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "*.db")
    return shutil.copytree(EXAMPLE, tmp_path / "mine", ignore=ignored)


@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_tasks_use_the_models_of_django(copied: Path, redis_db: RedisDb, pool: Pool) -> None:
    readme = (copied / "README.md").read_text("utf-8")
    printed = re.search(r"^```text\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert printed is not None
    server = f"redis://{redis_db.host}:{redis_db.port}"
    environment = {
        "SHOP_BROKER": f"{server}/{redis_db.broker_db}",
        "SHOP_RESULTS": f"{server}/{redis_db.result_db}",
        "SHOP_DATABASE": str(copied / "shop.db"),
    }

    def python(*arguments: str) -> str:
        return recipes.python(*arguments, folder=copied, env=environment).stdout

    python("manage.py", "migrate")
    assert "No changes" in python("manage.py", "makemigrations", "--check", "--dry-run")
    with Worker("shop.celery", pool=pool, cwd=copied, env=environment, cold=True) as worker:
        worker.wait_ready()
        output = python("call.py")
        assert worker.stop() == 0

    assert output == printed[1]
    assert "ERROR" not in worker.text

"""Tasks that await the same future get the same exception object; each is a task of its own."""

from __future__ import annotations

import pytest

from tests.integration import errors_service
from tests.integration.errors_service import let_go_on, share_and_fail, share_and_go_on
from tests.integration.typed_service import client as client_app
from tests.support.deployment import TIMEOUT, deploy
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool


@pytest.mark.parametrize("pool", ["asyncio", "threads"])
@pytest.mark.parametrize("first", ["fails", "goes on"])
@pytest.mark.usefixtures("clean_process")
def test_a_task_goes_on_after_an_error_with_which_another_one_fails(
    redis_server: RedisServer, mariadb_server: MariaDBServer, pool: Pool, first: str
) -> None:
    with deploy(redis_server, mariadb_server) as deployment:
        deployment.worker(pool, 4, module=errors_service.__name__)
        with client_app(deployment.environment) as app:
            app.set_current()
            app.set_default()
            failing = share_and_fail.delay() if first == "fails" else None
            going_on = share_and_go_on.delay()
            with pytest.raises(LookupError, match="shared"):
                (failing or share_and_fail.delay()).get(timeout=TIMEOUT)
            let_go_on.delay()

            assert going_on.get(timeout=TIMEOUT) == "went on"

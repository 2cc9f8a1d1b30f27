"""The lean path where receivers of signals and a monitor watch: the same calls, in the same order."""

from collections.abc import Iterator

import pytest

from tests.support.deployment import deploy, eventually
from tests.support.lean_paths import CASES, RUNS_AGAIN, Watched, lean_tasks, watching
from tests.support.servers import MariaDBServer, RedisServer


@pytest.fixture(scope="module")
def watched(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Watched]:
    with deploy(redis_server, mariadb_server) as deployment, watching(deployment) as watched:
        watched.both.send_all()
        yield watched


@pytest.mark.parametrize("name", CASES)
def test_receivers_and_monitors_are_told_alike(watched: Watched, name: str) -> None:
    both = watched.both
    lean, celerys = both.sent[name]
    assert both.outcome(lean) == both.outcome(celerys)
    watched.assert_told_alike(lean, celerys, runs_again=name in RUNS_AGAIN)


def test_the_lean_path_is_taken(watched: Watched) -> None:
    both = watched.both
    before = lean_tasks(both.deployment, both.lean)
    sent = [both.send("lean", name) for name in ("a number", "a wait", "late", "an error")]
    for result in sent:
        both.outcome(result)
    assert lean_tasks(both.deployment, both.lean) >= before + len(sent)
    assert lean_tasks(both.deployment, both.celerys) == 0


def test_a_receiver_may_send_tasks(watched: Watched) -> None:
    both = watched.both
    result = both.send("lean", "no value")
    both.outcome(result)
    eventually(lambda: any("'followed'" in line for line in both.lean.lines))

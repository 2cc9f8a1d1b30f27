"""The workers that tests start: what is ended with them, and what is not."""

import subprocess

from tests.support.workers import Worker


def test_the_session_of_a_worker_that_has_ended_may_be_that_of_others() -> None:
    with subprocess.Popen(
        ["sh", "-c", "cat && exit 3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(b"it runs\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"it runs\n"
        with Worker("tests.support.nowhere", cold=True) as worker:
            assert worker.wait() != 0
            # As the system gives the numbers of processes that have ended to new ones.
            worker._started().pid = other.pid
            assert worker.children() == []
        other.communicate(b"")
    assert other.returncode == 3

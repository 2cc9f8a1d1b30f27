"""What ends the process of a worker although threads of tasks still run."""

import threading
from types import SimpleNamespace
from typing import Any

from tests.support.patience import wait_until
from tomskit.celery._worker.last_threads import end_without_threads


def test_of_several_workers_of_a_process_only_the_last_one_watches_its_end() -> None:
    worker: Any = SimpleNamespace(exitcode=0)

    for _ in range(3):
        end_without_threads(worker)

    def is_one() -> bool:
        names = [one.name for one in threading.enumerate()]
        return names.count("tomskit-last-threads") == 1

    wait_until(is_one, 10, "one thread is left")

"""The tasks of `benchmarks.faults` for a plain Celery app, with Celery's defaults."""

import os
import time

from celery import Celery
from redis import Redis

from benchmarks.faults.names import EARLY, LATE, RUNS

app = Celery("faults", broker=os.environ["FAULTS_BROKER"], backend=os.environ["FAULTS_RESULTS"])
app.conf.task_track_started = True
_own = Redis(host=os.environ["FAULTS_OWN_HOST"], port=int(os.environ["FAULTS_OWN_PORT"]))


def _run(number: int, seconds: float) -> int:
    time.sleep(seconds)
    _own.hincrby(RUNS, str(number), 1)
    return number


@app.task(name=EARLY)
def early(number: int, seconds: float) -> int:
    return _run(number, seconds)


@app.task(name=LATE, acks_late=True)
def late(number: int, seconds: float) -> int:
    return _run(number, seconds)

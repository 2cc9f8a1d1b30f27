"""The tasks for plain Celery: some call ``asyncio.run``, some block, for gevent."""

import asyncio
import time

from celery import Celery

from benchmarks.pools.environment import count_task, queue_url, results_url

app = Celery("benchmark", broker=queue_url(), backend=results_url())


async def _noop() -> None:
    pass


@app.task(name="noop")
def noop() -> None:
    asyncio.run(_noop())


async def _counted() -> None:
    count_task()


@app.task(name="counted", ignore_result=True)
def counted() -> None:
    asyncio.run(_counted())


@app.task(name="sleep")
def sleep(seconds: float) -> None:
    asyncio.run(asyncio.sleep(seconds))


@app.task(name="blocking_noop")
def blocking_noop() -> None:
    pass


@app.task(name="blocking_counted", ignore_result=True)
def blocking_counted() -> None:
    count_task()


@app.task(name="blocking_sleep")
def blocking_sleep(seconds: float) -> None:
    time.sleep(seconds)

"""Reports that are no progress, and readers who take them for something else."""

from __future__ import annotations

from datetime import datetime

from tests.typing.accepted.progress import Counts, Progress, Step, load

from tomskit.celery import report


async def reports(step: Step) -> None:
    await report(3)  # E: a number has no fields
    await report("half")  # E: nor has text
    await report(Progress)  # E: the class, not an instance of it
    await report()  # E: what is it?
    await report(step, step)  # E: one at a time
    await report([step])  # E: a list has no fields
    report(step)  # E: not awaited


async def reads(task_id: str, when: datetime) -> None:
    sent = load.AsyncResult(task_id)
    async for progress in sent.progress(Progress):
        print(progress.percent)  # E: there is no such field
        done: str = progress.done  # E: int is not str
        print(done)
    async for counts in sent.progress(Counts):
        print(counts["done"])  # E: there is no such key
    async for step in sent.progress(Step):
        late: bool = step.begun  # E: datetime is not bool
        print(late)
    sent.progress()  # E: of which type?
    sent.progress(Progress(done=1, total=2))  # E: an instance, not the class
    sent.progress(Progress, 10)  # E: timeout is keyword-only
    sent.progress(Progress, timeout="10")  # E: str for float
    for _ in sent.progress(Progress):  # E: async for
        pass
    await sent.progress(Progress)  # E: it is iterated, not awaited


# A report that nobody awaits is as it should be here.
# mypy: disable-error-code="unused-awaitable"

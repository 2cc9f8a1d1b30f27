"""What a status page cannot ask of a result."""

from __future__ import annotations

from tests.typing.accepted.shop import charge, price

from tomskit.celery import AsyncCelery, group


async def of_a_result(task_id: str) -> None:
    result = charge.AsyncResult(task_id)
    await result.astate(3)  # E: timeout is keyword-only
    await result.astate(timeout="3")  # E: str for float
    await result.arevoke(True)  # E: terminate is keyword-only
    await result.arevoke(terminate="yes")  # E: str for bool
    await result.arevoke(signal=15)  # E: int for the name of a signal
    await result.aforget(wait=True)  # E: no such option
    await charge.AsyncResult()  # E: the id is missing
    ready: str = await result.aready()  # E: bool is not str
    state: bool = await result.astate()  # E: str is not bool
    print(ready, state)


async def of_a_group(skus: list[str]) -> None:
    members = await group(price.s(sku) for sku in skus).adelay()
    await members.astate()  # E: each of the tasks has a state of its own
    await members.arevoke(True)  # E: terminate is keyword-only


async def of_an_id(app: AsyncCelery, task_id: str) -> None:
    result = app.AsyncResult(task_id)
    await result.astate(3)  # E: timeout is keyword-only
    app.AsyncResult()  # E: the id is missing
    await app.AsyncResult(3)  # E: int for an id
    ready: str = await app.ResultSet([result]).aready()  # E: bool is not str
    await app.GroupResult.restore("group")  # E: None where nothing was saved
    print(ready)

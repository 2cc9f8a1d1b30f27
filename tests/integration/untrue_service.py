"""Tasks with annotations and time limits that cannot work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task

if TYPE_CHECKING:
    from decimal import Decimal

app = AsyncCelery("untrue", config=CeleryConfig())
app.conf.task_annotations = {f"{__name__}.wait": {"soft_time_limit": "30"}}


@async_shared_task
async def charge(amount: Decimal) -> None: ...


@async_shared_task
async def log_in(password: SecretStr) -> None: ...


@async_shared_task
async def connect() -> AsyncCelery:
    return app


@async_shared_task
async def wait() -> None: ...

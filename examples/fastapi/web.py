"""The web application: ``uvicorn web:api`` serves it. Nothing in it blocks the event loop."""

from collections.abc import AsyncGenerator
from pathlib import Path

from celery.exceptions import TimeoutError as CeleryTimeoutError
from exports import Export, Progress, export
from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, Field
from worker import app

PAGE = Path(__file__).with_name("page.html")
LONGEST_SECONDS = 3600.0
"""How long a page may follow a task. It may ask again."""

app.set_default()  # The tasks are this app's, in every thread.
api = FastAPI(title="Exports")


class Order(BaseModel):
    name: str
    pages: int = Field(ge=0, le=1000)
    seconds: float = Field(default=0.2, ge=0, le=10)


class Status(BaseModel):
    id: str
    state: str
    export: Export | None = None
    error: str | None = None


@api.get("/")
async def page() -> FileResponse:
    return FileResponse(PAGE)


@api.post("/exports", status_code=202)
async def start(order: Order) -> Status:
    sent = await export.adelay(order.name, order.pages, order.seconds)
    return Status(id=sent.id, state="PENDING")


@api.get("/exports/{task_id}")
async def status(task_id: str) -> Status:
    result = export.AsyncResult(task_id)
    state = await result.astate()
    if state == "SUCCESS":
        return Status(id=task_id, state=state, export=await result)
    if state in {"FAILURE", "REVOKED"}:
        error: object = await result.aget(propagate=False)
        return Status(id=task_id, state=state, error=str(error))
    return Status(id=task_id, state=state)


@api.delete("/exports/{task_id}", status_code=204)
async def cancel(task_id: str) -> None:
    await export.AsyncResult(task_id).arevoke(terminate=True)


@api.get("/exports/{task_id}/events")
async def events(task_id: str) -> StreamingResponse:
    """Server-sent events: ``progress`` while the task runs, and ``status`` when it has ended."""
    return StreamingResponse(
        follow(task_id), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def follow(task_id: str) -> AsyncGenerator[str]:
    result = export.AsyncResult(task_id)
    try:
        async for progress in result.progress(Progress, timeout=LONGEST_SECONDS):
            yield event("progress", progress)
    except CeleryTimeoutError:
        return  # The browser connects again.
    yield event("status", await status(task_id))


def event(name: str, data: BaseModel) -> str:
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n"

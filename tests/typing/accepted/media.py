"""The tasks of a video service: pictures and text of clips, mixes, channels and their bills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Literal
from uuid import UUID, uuid4

from pydantic import BaseModel

from tomskit.celery import AsyncTask, BoundTask, TaskRequest, async_shared_task

Preset = Literal["web", "tv"]


class Channel(Enum):
    MAIN = "main"
    KIDS = "kids"


class Media(BaseModel):
    """What every file is."""

    url: str
    size: int = 0


class Clip(Media):
    length: timedelta = timedelta()


class Picture(Media):
    width: int = 320


@dataclass(frozen=True)
class Subtitles:
    language: str
    lines: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Invoice:
    customer: UUID
    amount: Decimal
    due: date


@async_shared_task(queue="io", autoretry_for=(OSError,), retry_backoff=True)
async def fetch(asset: UUID, *, version: int = 1) -> Clip:
    """Get a clip from the archive."""
    return Clip(url=f"s3://{asset}/{version}")


@async_shared_task(queue="cpu", time_limit=600)
async def transcode(clip: Clip, preset: Preset = "web", *, bitrate: float | None = None) -> Clip:
    """Make a clip that browsers or television sets can play."""
    return Clip(url=f"{clip.url}.{preset}", size=int(bitrate or 0))


@async_shared_task
async def poster(clip: Clip, /, at: timedelta = timedelta(seconds=1), *, width: int) -> Picture:
    """The picture at a time of the clip."""
    return Picture(url=f"{clip.url}#{at}", width=width)


@async_shared_task
async def subtitle(clip: Clip, language: str) -> Subtitles:
    return Subtitles(language, [clip.url])


@async_shared_task
async def checksum(media: Media, /) -> str:
    """Of any file."""
    return media.url


@async_shared_task
async def mix(clips: list[Clip], *labels: str, **gains: float) -> Clip:
    return Clip(url="+".join([clip.url for clip in clips] + [*labels, *gains]))


@async_shared_task
async def album(files: Sequence[Media], title: str = "Album") -> dict[str, int]:
    return {f"{title}/{file.url}": file.size for file in files}


@async_shared_task
async def bundle(parts: list[Picture | Subtitles]) -> bytes:
    return repr(parts).encode()


@async_shared_task(bind=True, max_retries=5, rate_limit="10/s")
async def publish(
    self: BoundTask, clip: Clip, channel: Channel = Channel.MAIN, *, at: datetime | None = None
) -> UUID:
    if self.request.retries < 1:
        raise self.retry(countdown=1, kwargs={"at": at or datetime.now(UTC)})
    return uuid4()


@async_shared_task(bind=True, ignore_result=True)
async def notify(self: AsyncTask[..., None], user: str, *, message: str = "done") -> None:
    self.update_state(state="NOTIFIED", meta={"user": user, "message": message})


@async_shared_task
async def bill(customer: UUID, amount: Decimal, due: date, lines: Mapping[str, int]) -> Invoice:
    return Invoice(customer, amount * len(lines), due)


@async_shared_task
async def remind(invoice: Invoice, days: int = 14) -> datetime | None:
    return datetime.now(UTC) if invoice.due < date.today() - timedelta(days) else None  # noqa: DTZ011


@async_shared_task
async def search(text: str = "", limit: int = 10) -> list[UUID]:
    return [uuid4() for _ in text[:limit]]


@async_shared_task
async def count(values: Sequence[object]) -> int:
    return len(values)


@async_shared_task
async def grouped(clips: dict[str, list[Clip]], /, *names: str) -> tuple[str, int]:
    return names[0], len(clips)


@async_shared_task
async def clean_up() -> int:
    return 0


@async_shared_task
async def alarm(task_id: str) -> None:
    """Called when another task has failed."""


@async_shared_task
async def failed(request: TaskRequest, exc: Exception, traceback: str) -> None:
    """Called where another task has failed."""

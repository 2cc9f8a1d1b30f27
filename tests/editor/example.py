"""Tasks as users write them, opened in an editor by the tests."""

from datetime import timedelta

from pydantic import BaseModel

from tomskit.celery import AsyncCelery, BoundTask, async_shared_task, report

app = AsyncCelery("example")


@async_shared_task
async def resize(image: str, width: int = 640, height: int = 480, *, crop: bool = True) -> bytes:
    """Make a picture fit into a box.

    The original stays as it is.

    Args:
        image: The name of the picture.
        width: Pixels from left to right.
        height: Pixels from top to bottom.
        crop: Cut off what does not fit, instead of leaving a border.
    """
    return f"{image} {width}x{height} {crop}".encode()


@async_shared_task(bind=True, max_retries=3)
async def publish(self: BoundTask, image: str, /, title: str, *, tags: tuple[str, ...] = ()) -> int:
    """Put a picture on the front page.

    Args:
        image: The name of the picture.
        title: What stands below it.
        tags: Words to find it by.
    """
    return self.request.retries + len(image) + len(title) + len(tags)


class Progress(BaseModel):
    """How far a task is."""

    done: int
    total: int


@async_shared_task
async def resize_all(images: list[str]) -> int:
    """Make all pictures fit into their boxes."""
    await report(Progress(done=len(images), total=len(images)))
    return len(images)


@app.task
async def archive(image: str, *, year: int = 2026) -> bool:
    """Put a picture away."""
    return bool(image) and year > 0


@app.task(bind=True, max_retries=3)
async def restore(self: BoundTask, image: str, *, year: int = 2026) -> bool:
    """Take a picture out again."""
    return self.request.retries < len(image) + year


@app.task(every=timedelta(hours=1))
async def sweep(days: int = 30) -> int:
    """Delete what nobody has looked at."""
    return days


@async_shared_task(every=3600)
async def count(days: int = 30) -> int:
    """Count the pictures."""
    return days

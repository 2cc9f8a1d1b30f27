"""tomskit: async def tasks in ordinary Celery workers."""

from tomskit.errors import TomsKitError
from tomskit.settings import TomsKitBaseSettings

__all__ = ("TomsKitBaseSettings", "TomsKitError")

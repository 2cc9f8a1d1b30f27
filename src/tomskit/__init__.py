"""tomskit: async def tasks in ordinary Celery workers."""

from tomskit.errors import TomsKitError
from tomskit.settings import TomsKitBaseSettings

__version__ = "0.1.0"

__all__ = ("TomsKitBaseSettings", "TomsKitError")

"""Where toms-fast has TomsKitBaseSettings; ``from tomskit import TomsKitBaseSettings``."""

from tomskit.settings import TomsKitBaseSettings

__all__ = ("TomsKitBaseSettings",)

"""Where toms-fast has register_orjson_serializer; import it from ``tomskit.celery``."""

from tomskit.celery.serializers import register_orjson_serializer

__all__ = ("register_orjson_serializer",)

"""A module with tasks that registers a serializer."""

from kombu import serialization

serialization.register("mine", repr, str, content_type="application/x-mine")

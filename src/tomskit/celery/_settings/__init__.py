"""The parts of CeleryConfig: its fields, by what they configure.

    broker            the broker and its Sentinels
    results           the result backend
    tasks_and_worker  tasks, workers, serializers, beat
    resources         the database and the Redis client of tasks
    checked           what other texts have to be
    urls              URLs of brokers and result backends
    prefixes          a part of the fields under the names of another configuration

Each of the first four is a base class of `tomskit.celery.config.CeleryConfig`.
"""

"""Messages, tasks and the worker that runs them."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from tomskit.celery._settings.checked import (
    beat_entries,
    compression_method,
    log_format,
    rate_limit,
    routes,
    time_zone,
)
from tomskit.settings import (
    CommaSeparated,
    Days,
    Options,
    Seconds,
    SecondsOrZero,
    TomsKitBaseSettings,
    UnlessFor,
)

__all__ = ("SPAWN_TIMEOUT", "TaskAndWorkerSettings")

SPAWN_TIMEOUT: Final = 60.0
"""Seconds until a process that is spawned is ready, after which Celery kills it and starts another one.

Celery's 4 s are for forks. A spawned process imports the application, and on a busy machine that takes longer:
then it was killed, and so was each one after it.
"""


def _is_no_object(text: str) -> bool:
    return not text.lstrip().startswith("{")


_NAME_OF_A_FILE: Final = (
    "The environment variable CELERY_BEAT_SCHEDULE is the name of a file for `celery beat`: call it "
    "CELERY_BEAT_ENTRIES where it holds the entries"
)


class TaskAndWorkerSettings(TomsKitBaseSettings):
    """How CeleryConfig encodes, routes and runs tasks."""

    # -- messages
    CELERY_TASK_SERIALIZER: str = Field(default="json", description="How arguments are encoded.")
    CELERY_RESULT_SERIALIZER: str = Field(default="json", description="How results are encoded.")
    CELERY_ACCEPT_CONTENT: CommaSeparated = Field(
        default=["json"], description="Serializers that are read; in the environment `a,b`."
    )
    CELERY_TASK_COMPRESSION: Annotated[str, AfterValidator(compression_method)] | None = Field(
        default=None, description="Compress messages: `gzip`, `bzip2`, `zstd`."
    )
    CELERY_TIMEZONE: Annotated[str, AfterValidator(time_zone)] = Field(
        default="UTC", description="Time zone of schedules."
    )
    CELERY_ENABLE_UTC: bool = Field(default=True, description="Send times as UTC.")

    # -- tasks
    CELERY_IMPORTS: CommaSeparated = Field(
        default=[], description="Modules with tasks, loaded when a worker starts."
    )
    CELERY_INCLUDE: CommaSeparated = Field(
        default=[], description="More modules with tasks, loaded after CELERY_IMPORTS."
    )
    CELERY_TASK_ROUTES: Annotated[Options, AfterValidator(routes)] = Field(
        default=None, description='Where tasks go: `{"shop.*": {"queue": "shop"}}`.'
    )
    CELERY_BEAT_ENTRIES: Annotated[Options, AfterValidator(beat_entries)] = Field(
        default=None,
        description='What `celery beat` sends: `{"daily": {"task": "report", "schedule": 86400}}`.',
    )
    CELERY_BEAT_SCHEDULE: Annotated[
        Options,
        AfterValidator(beat_entries),
        UnlessFor(theirs=_is_no_object, warning=_NAME_OF_A_FILE),
    ] = Field(
        default=None,
        description="Another name of CELERY_BEAT_ENTRIES, for arguments. The environment variable of "
        "this name is the file of `celery beat`.",
    )
    CELERY_TASK_PUBLISH_RETRY: bool = Field(
        default=True, description="Send a task again when the connection to the broker was lost."
    )
    CELERY_TASK_DEFAULT_QUEUE: str = Field(
        default="celery", description="Queue of tasks without one."
    )
    CELERY_TASK_TRACK_STARTED: bool = Field(default=True, description="Record the state STARTED.")
    CELERY_TASK_IGNORE_RESULT: bool = Field(default=False, description="Keep no results.")
    CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED: bool = Field(
        default=False, description="Keep errors of tasks whose results are ignored."
    )
    CELERY_TASK_TIME_LIMIT: Seconds | None = Field(
        default=None, description="Seconds after which a task is ended."
    )
    CELERY_TASK_SOFT_TIME_LIMIT: Seconds | None = Field(
        default=None, description="Seconds after which a task gets SoftTimeLimitExceeded."
    )
    CELERY_TASK_ACKS_LATE: bool = Field(
        default=False, description="Acknowledge a message after its task has run."
    )
    CELERY_TASK_REJECT_ON_WORKER_LOST: bool = Field(
        default=False, description="Run a late-acknowledged task again when its process was killed."
    )
    CELERY_TASK_DEFAULT_RATE_LIMIT: Annotated[str, AfterValidator(rate_limit)] | None = Field(
        default=None, description="Rate limit of tasks without one, such as `10/s`."
    )
    CELERY_TASK_DEFAULT_PRIORITY: NonNegativeInt | None = Field(
        default=None, description="Priority of tasks without one; 0 is the highest on Redis."
    )
    CELERY_TASK_CREATE_MISSING_QUEUES: bool = Field(
        default=True, description="Create queues that are named but not configured."
    )
    CELERY_OUTBOX_INTERVAL: Seconds = Field(
        default=15.0,
        description="Seconds within which a worker publishes a message of `delay_on_commit` whose "
        "process died after the commit.",
    )
    CELERY_ONCE_KEEP: Days = Field(
        default=7.0,
        description="Days for which the marks of tasks with `once=True` are kept: longer than any "
        "message may wait to be delivered again.",
    )
    CELERY_TASK_SEND_SENT_EVENT: bool = Field(
        default=False, description="Send an event for each task that is sent."
    )
    CELERY_TASK_ALWAYS_EAGER: bool = Field(
        default=False, description="Run tasks where they are called, for tests."
    )
    CELERY_TASK_EAGER_PROPAGATES: bool = Field(
        default=False, description="Raise the errors of eager tasks from `.delay`."
    )
    CELERY_TASK_STORE_EAGER_RESULT: bool = Field(
        default=False, description="Store results of eager tasks."
    )

    CELERY_REDIS_FAST_PATH: bool | None = Field(
        default=None,
        description="Send commands to Redis in batches. None does so in workers of the asyncio pool "
        "and in async code that sends tasks, true in all workers as well, false nowhere.",
    )
    CELERY_FETCH_BYTES: PositiveInt = Field(
        default=8_000_000,
        description="Bytes that one fetch of the fast path takes at most, beyond its first message.",
    )

    # -- worker
    CELERY_WORKER_POOL: Literal["prefork", "solo", "threads", "asyncio"] = Field(
        default="prefork", description="Pool of the worker: how it runs several tasks at once."
    )
    CELERY_WORKER_CONCURRENCY: PositiveInt | None = Field(
        default=None,
        description="Tasks at once; the number of processors by default, and 1000 with asyncio.",
    )
    CELERY_WORKER_SYNC_CONCURRENCY: PositiveInt = Field(
        default=16, description="Plain tasks at once in threads, beside async ones with asyncio."
    )
    CELERY_WORKER_SLOW_CALLBACK_DURATION: SecondsOrZero = Field(
        default=0.5,
        description="Seconds for which a task may block the event loop with asyncio, before the log "
        "names it; 0 is no limit.",
    )
    CELERY_WORKER_POOL_START_METHOD: Literal["fork", "spawn"] = Field(
        default="fork",
        description="How the prefork pool starts its processes. One that is spawned may take 60 s to start, in "
        "place of 4 s, unless the app sets `worker_proc_alive_timeout`.",
    )
    CELERY_WORKER_PREFETCH_MULTIPLIER: NonNegativeInt = Field(
        default=4, description="Messages fetched ahead, for each task at once; 0 is no limit."
    )
    CELERY_WORKER_MAX_TASKS_PER_CHILD: PositiveInt | None = Field(
        default=None, description="Tasks after which a prefork process is replaced."
    )
    CELERY_WORKER_MAX_MEMORY_PER_CHILD: PositiveInt | None = Field(
        default=None, description="KiB of memory after which a prefork process is replaced."
    )
    CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT: SecondsOrZero = Field(
        default=0.0, description="Seconds that a cold shutdown first waits for tasks to finish."
    )
    CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE: bool = Field(
        default=False,
        description="Wait for that time even if no task is running, because of tasks with an ETA.",
    )
    CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS: bool = Field(
        default=False, description="End late-acknowledged tasks when the broker is lost."
    )
    CELERY_WORKER_SEND_TASK_EVENTS: bool = Field(
        default=False, description="Send events that monitors such as Flower show."
    )
    CELERY_WORKER_DISABLE_RATE_LIMITS: bool = Field(
        default=False, description="Ignore all rate limits."
    )
    CELERY_WORKER_ENABLE_REMOTE_CONTROL: bool = Field(
        default=True, description="Listen to `celery inspect` and `celery control`."
    )
    CELERY_WORKER_HIJACK_ROOT_LOGGER: bool = Field(
        default=True, description="Replace the root logger's handlers."
    )
    CELERY_WORKER_LEAN_PATH: bool = Field(
        default=True,
        description="Run tasks without Celery's request and tracer with asyncio, where their messages "
        "do not need them; false never does.",
    )
    CELERY_WORKER_HEALTH_FILE: str | None = Field(
        default=None,
        description="A file that the worker touches every 5 seconds while its loop turns and its "
        "broker answers; `%n` becomes the worker's name.",
    )
    CELERY_WORKER_LOG_FORMAT: Annotated[str, AfterValidator(log_format)] | None = Field(
        default=None, description="Format of the worker's log lines; shows the task id by default."
    )
    CELERY_WORKER_TASK_LOG_FORMAT: Annotated[str, AfterValidator(log_format)] | None = Field(
        default=None, description="Format of task loggers' lines; shows the task id by default."
    )

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        entries, old = self.CELERY_BEAT_ENTRIES, self.CELERY_BEAT_SCHEDULE
        if entries is not None and old is not None and entries != old:
            raise ValueError(
                "CELERY_BEAT_ENTRIES and CELERY_BEAT_SCHEDULE are two names of one setting: "
                "remove one"
            )
        # Not as an assignment: nobody set the other one.
        both = old if entries is None else entries
        vars(self).update(CELERY_BEAT_ENTRIES=both, CELERY_BEAT_SCHEDULE=both)
        return self

    @model_validator(mode="after")
    def _soft_limit_comes_first(self) -> Self:
        soft, hard = self.CELERY_TASK_SOFT_TIME_LIMIT, self.CELERY_TASK_TIME_LIMIT
        if soft is not None and hard is not None and soft > hard:
            raise ValueError("CELERY_TASK_SOFT_TIME_LIMIT is longer than CELERY_TASK_TIME_LIMIT")
        return self

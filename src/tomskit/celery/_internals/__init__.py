"""Every name of Celery, kombu, billiard, redis-py, pydantic and Python that is not public and is relied on.

Each module stands for one part of a package. Its docstring has an entry for each name: what it is
for, and what happens in a release that no longer has it. `docs/reference/internals.md` is made of
these entries, and `tests/unit/test_internals_*.py` has a test for each.

    celery             the current app and task, the table of pools
    celery_app         configuration, and what AsyncCelery overrides
    celery_backend     result backends
    celery_database    the result backend for databases
    celery_command     environment variables that Celery reads itself
    celery_lean        which tasks have only Celery's code around them, for the lean path
    celery_request     its request of a task
    celery_replay      its tracer, for a task whose body has run
    celery_task_lines  the log lines and the events of a task
    celery_messages    how Celery publishes a task
    celery_replies     results that come in messages
    inherited          what a process that was forked has of its parent's client
    celery_results     results, where they are kept once read
    celery_tasks       how tasks and signatures are made
    celery_worker      the worker, its pool and its consumer
    celery_prefork     the jobs of a prefork pool
    billiard           processes of the pool, and failed tasks
    kombu              connections, messages and the event loop of the worker
    kombu_redis        kombu's Redis transport
    amqp               what comes from RabbitMQ
    redis_connections  connections and pools of redis-py
    pydantic_core      schemas of annotations, and models
    python             frames and callbacks of a running interpreter
    refusals           errors that end a worker at its start, as click shows them

Besides, what has no types is typed here, so that the other rooms need no casts.
"""

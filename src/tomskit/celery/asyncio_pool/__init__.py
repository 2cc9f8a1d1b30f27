"""The asyncio pool: thousands of async tasks at once in one worker process.

Chosen by ``CELERY_WORKER_POOL=asyncio``, ``worker_pool = "asyncio"`` or ``-P asyncio``.

    pool              which tasks run, and which wait for a slot
    job               one task, from its start to its end
    lean_strategy     which messages have nothing special about them
    lean_job          its task, without Celery's tracer while that has nothing to do
    report            what Celery is told of a task
    failures          how many tasks fail at once
    hub               the worker's event loop, waiting through asyncio's
    main_loop         AsyncRuntime.run in the worker's loop
    consumer          connecting and reconnecting, in a thread
    patient_consumer  waiting for a broker that cannot be written to
    redis_channel     waiting for Redis in the loop, and messages of a lost connection
    loop_socket       the socket of a connection that waits in the loop
    backend           the result backend, in threads
    redis_results     results in Redis, many at once
    clock             the time, as it is stored with results
    signals           ending the worker
    watchdog          naming the task that blocks the loop
    collector         Python's search for reference cycles, made rare
"""

from tomskit.celery.asyncio_pool.pool import AsyncioPool

__all__ = ("AsyncioPool",)

# Celery shows it when a worker starts, and in `inspect stats`.
AsyncioPool.__module__ = __name__

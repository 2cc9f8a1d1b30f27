"""The asyncio pool: thousands of async tasks at once in one worker process.

Chosen by ``CELERY_WORKER_POOL=asyncio``, ``worker_pool = "asyncio"`` or ``-P asyncio``.

    pool      which tasks run, and what Celery is told of them
    job       one task, from its start to its end
    greenlets how Celery's synchronous code waits without blocking
    hub       the worker's event loop, waiting through asyncio's
    collector Python's search for cycles, made rare
    consumer  connecting and reconnecting, in a thread
    blocking  the result store and publishing, in threads
    redis_channel  waiting for Redis in the loop, and settling what a lost connection leaves
    redis_results  results in Redis, many at once
    main_loop AsyncRuntime.run, here
    signals   ending the worker
    watchdog  who blocks the loop
    setup     the worker, prepared for all this
"""

from tomskit.celery.asyncio_pool.pool import AsyncioPool

__all__ = ("AsyncioPool",)

# Celery shows it when a worker starts, and in `inspect stats`.
AsyncioPool.__module__ = __name__

"""Running coroutines: the event loop of a process, and a task's coroutine on it.

    context     who is running: the app, the task's id, the identity of an execution
    runtime     AsyncRuntime: one event loop in a background thread
    event_loop  what AsyncRuntime and the asyncio pool's loop have in common
    inbox       how other threads hand work to the loop
    execution   one coroutine on the loop, while a thread waits for it
    guard       time limits of a coroutine: interrupted, ended, abandoned
    gate        when the signal of a soft limit may interrupt a process of the prefork pool
    steering    turning a cancellation at an await into another exception
    odd_errors  errors of tasks that cannot be shown or copied
    long_errors  errors that thousands of others have led to, and texts without end
    greenlets   plain functions that wait without blocking the loop
    places      where such code runs, and what it may do there
    host        an app's runtime together with the app's resources
    turns       turns of a worker's loop while it waits for its tasks to end
    strays      processes that a task has forked and not ended
    forks       locks in a process that is forked while its threads run
    repeated_lines  log lines that are written again and again
    stream_lines    the same, where only a stream gets them
    runner      AsyncTaskRunner: a coroutine function in a loop of its own

Of these `tomskit.celery` exports AsyncRuntime, AsyncTaskRunner and `celery_context`.
"""

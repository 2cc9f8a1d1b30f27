"""The worker: the parts, boot steps, signals and log lines that let it run coroutines.

    signals  Celery's signals, and what happens on each
    steps    the boot step that starts and stops the runtime
    prepare  the parts that the worker's pool needs
    logging  the task id on log records

Of these only `signals` and `logging` are imported where no worker runs.
"""

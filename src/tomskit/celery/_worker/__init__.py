"""The worker: prepared for coroutines, its boot steps, signals and log lines.

signals  Celery's signals, and what happens on each
steps    the boot step that starts and stops the runtime
prepare  the parts that the worker's pool needs
logging  the task id on log records
"""

"""The worker: the parts, boot steps, signals and log lines that let it run coroutines.

    signals  Celery's signals, and what happens on each
    checked_worker  the worker program, which refuses serializers that are not there
    steps    the boot step that starts and stops the runtime
    servers  refusing servers that refuse
    patient_backend  what is stored again until the result backend returns
    last_threads  a process that ends although tasks have left threads behind
    prepare  the parts that the worker's pool needs
    contained_calls  what a function of the threads or the solo pool raises, whatever it is
    prefork_pool  the prefork pool, which keeps what it has handed to its processes, and interrupts nothing but tasks
    solo_pool  the solo pool: functions of other packages may fail, and SIGQUIT ends the task
    threads_pool  the threads pool: SIGQUIT waits for its running tasks
    unreadable  messages that no worker can read
    heartbeats  each is tried once
    beat     which ends when it is told to
    connections  a warning of more database connections than a server admits
    overview  what is in force, for the banner and for ``celery report``
    shown_broker  the boot step that hides a password in the statistics
    remarks  what the worker was asked for and its pool cannot do
    logging  the task id on log records
    health   the boot step that touches a file while the worker is well
    outbox   the boot step that publishes messages that other processes have left
    supervised  what a worker does for ``celery workers``, which started it

Of these only `signals`, `beat`, `supervised` and `logging` are imported where no worker runs.
"""

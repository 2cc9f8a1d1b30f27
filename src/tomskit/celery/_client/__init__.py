"""Sending tasks and waiting for results in code that runs in an event loop.

With Redis both happen in the loop: the messages of one of its turns go in one write, and all waiters
of a loop listen on one connection. With anything else, such as RabbitMQ, threads wait.

    client         decides which of the two, and keeps the connections of each event loop
    publishing     Celery's own publishing, in a greenlet that waits in the loop
    producers      publishing from threads
    control        commands of remote control
    templates      messages of calls without options, without Celery's publish path
    subscriptions  results, as Redis announces them
    result         results that know what the task's function returns
    result_sets    those of several tasks, and of groups
    ignored        which tasks have no result to wait for
    progress       what tasks report while they run
    states         a task's state, and revoking and forgetting it
    recording      messages that are kept in place of being published
    origin         of which app, and for which broker, a recorded message is
    recorded       templates of messages that are kept
    shapes         recorded messages, published without kombu's publish path
    listening      results, as a thread waits for them
    waiting        how long it does where their server does not answer
    replies        results that come in messages
    database_results   results in a database: time limits, and what workers keep
    kept_sessions  connections to it that are used again
    quiet_backend  the result backend, where tasks are sent in an event loop
    error_backend  the result backend, which stores what errors are made of
    encodings      serializers and compression methods that settings name
    seconds        numbers of seconds that cannot work
    retrying       an operation tried again while its server is away
    threads        threads for calls that block
    forked         connections to the broker in a process that was forked
"""

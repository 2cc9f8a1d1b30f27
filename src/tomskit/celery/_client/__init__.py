"""Sending tasks and waiting for results in code that runs in an event loop.

With Redis both happen in the loop: what is sent in one of its turns goes in one write, and all
waiters of a loop listen on one connection. Anything else, such as RabbitMQ, is waited for in threads.

    client         decides which, and keeps what belongs to a loop
    publishing     Celery's own sending, in a greenlet that waits in the loop
    subscriptions  results, as Redis announces them
    backend        the result backend, for code that sends
    threads        what blocks, made bearable for an event loop
"""

"""The fast path to Redis: kombu's queues and Celery's results, many commands at once.

Chosen and left by ``CELERY_REDIS_FAST_PATH``. Keys and formats are kombu's and Celery's own.

    connection   which classes of kombu's a worker's connection is made of
    channel      kombu's channel and its acknowledgements, without waiting for Redis
    conversation what a channel and Redis say to each other
    poller       when they do
    scripts      what Redis does in one step
"""

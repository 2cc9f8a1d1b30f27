"""The fast path to Redis: kombu's queues and Celery's results, many commands in one write.

Chosen by ``CELERY_REDIS_FAST_PATH``. Keys and formats are kombu's and Celery's own.

For a worker:

    parts         the connection of a worker, made of these classes and kombu's
    channel       kombu's channel, without waiting for Redis
    acknowledging  the acknowledgements of a turn, in one go
    guarded       a channel that messages which cannot be read do not end
    payloads      what is in queues, read
    long_messages  messages of more than a megabyte, read in short steps
    calls         messages that only say what to call
    conversation  the commands of a channel, and their answers
    connections   a connection that is lost when Redis cannot do what it is asked
    sockets       answers that come slowly, and hardly at all
    silence       a broker that does not answer while the worker stops
    outstanding   what a lost connection leaves to the next one
    unfetched     what does not arrive, however often it is fetched
    giving_back   what was delivered goes back, whatever others do meanwhile
    permissions   channels and acknowledgements where Redis allows no scripts
    packing       commands as they are written to a connection
    poller        when they are sent and read
    scripts       what Redis does in one step

For an event loop:

    batches       the commands of one turn of the loop, in one write
    deadlines     ending what stands still
    loop_pool     connections for an event loop, made after those of a pool without one
    loop_redis    redis-py's client, for plain functions in greenlets of the loop
"""

"""Worker pools and task queues side by side: `python -m benchmarks.pools`, or `make bench-pools`.

Every contender gets a worker of its own, one after another in the same run, on one private Redis on
loopback, with databases that nobody has used. All store a result for each task, nobody asks for
one, all log warnings and worse, and the queue is full before the worker starts.

**What is measured.** Nothing inside a worker: the queue and the results are looked at from outside,
every 20 ms and with commands of constant cost, so all are slowed down alike. The clock runs from
the first look at which the worker has taken something from the queue to the first at which the
result of every task is stored; a rate is the number of tasks divided by that. So what a worker
takes ahead counts, and what it needs to start does not: that is the column "start".

- Celery and taskiq have a list for a queue, from which something was taken as soon as it is
  shorter, and results in another database, one key a task: its size tells how many there are. When
  Celery records the state STARTED in the same keys, those are read as well once all are there.
- arq and streaq keep everything in one database and remove a task from the queue in the transaction
  that stores its result, so the last result is stored when the queue is empty. That they have begun
  is seen by arq's keys for what is in progress and by the pending entries of streaq's stream.

- Where results are ignored the tasks count themselves, and the last one leaves a key. taskiq has no
  result backend then, arq keeps results for no time, streaq and Celery are told at the task.

- Redis's own count of commands is divided by the number of tasks: those in scripts count as well, and
  so do the few by which the worker is watched.

**Clients** that have an event loop send 1000 no-ops to a worker that runs, 200 at a time, and the
clock runs until all are sent. They also send and await 20 results one after the other, and 1000 at
once. taskiq and arq look for results again and again; here every 50 ms, which serves them better than
their defaults. streaq has no row: with 100 waiters at once its client waits for ever (streaq 7.2).

**Who runs.** tomskit with the asyncio pool twice: as it is by default, and without the state
STARTED, which no peer records. Of plain Celery prefork (two processes) and threads (1000), whose
tasks call ``asyncio.run``, and gevent (1000), whose tasks do what blocks, patched. taskiq, arq and
streaq with one process and 1000 tasks at once. All workers of Celery, tomskit's as well, are started
without gossip, mingle and heartbeat. Beyond that everyone has its defaults; arq's look at the queue
every 0.5 s is one of them. Nobody has uvloop; arq brings hiredis, because it requires it. arq does
not accept the redis-py that taskiq requires, so it gets a virtual environment of its own in a
temporary folder.

**Targets** hold for the full number of tasks, not for a smaller ``--scale``.
"""

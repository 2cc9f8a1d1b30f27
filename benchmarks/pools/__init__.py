"""Compare worker pools and task queues: `python -m benchmarks.pools`, or `make bench-pools`.

Every contender runs its own worker, one after another in the same run, on one private Redis on
loopback, with unused databases. All store a result for each task, no client reads a result, and the
queue is full before the worker starts. All log at level WARNING, except for tomskit's first row: its
defaults include two lines a task at INFO, which go to a file there.

**What is measured.** Nothing inside a worker: the benchmark polls the queue and the results from
outside, every 20 ms and with commands of constant cost, so the overhead is the same for all. The clock
runs from the first poll that finds a task taken from the queue to the first poll that finds the
results of all tasks; a rate is the number of tasks divided by that time. So prefetching
counts, and the start of the worker does not: that is the column "start".

- The queue of Celery and taskiq is a list; a task was taken as soon as the list is shorter. Results are
  in another database, one key per task, so its size is the number of results. If Celery records the
  state STARTED in the same keys, these are read as well once all exist.
- arq and streaq keep everything in one database and remove a task from the queue in the transaction
  that stores its result, so the last result is stored when the queue is empty. arq's in-progress keys
  and the pending entries of streaq's stream show that tasks have started.

- If results are ignored, the tasks count themselves, and the last one sets a key. taskiq then has no
  result backend, arq keeps results for 0 seconds, streaq and Celery have an option of the task.

- BullMQ keeps completed jobs with their results in a sorted set, which is counted.

- The processor time of a task is that of all of a worker's processes between the same two polls, in
  user and in system mode. Redis works besides.

- Redis's own count of commands is divided by the number of tasks. It includes the commands in scripts
  and the few commands of the polling.

**Clients** with an event loop send 1000 no-ops to a running worker, 200 at a time, and the
clock runs until all are sent. They also send and await 20 results one after the other, and 1000 at
once. taskiq and arq poll for results; here every 50 ms, which is better for them than
their defaults. streaq has no row: with 100 concurrent waiters its client waits for ever (streaq 7.2).

**Contenders.** tomskit with the asyncio pool twice: with its defaults, and at WARNING without the state
STARTED, which no peer records. Plain Celery with prefork (two processes) and threads (1000), whose
tasks call ``asyncio.run``, and with gevent (1000), whose tasks use monkey-patched blocking calls. taskiq,
arq and streaq with one process and 1000 concurrent tasks. All Celery workers, tomskit's included, start
without gossip, mingle and heartbeat. All else is each contender's default, such as arq's polling of the
queue every 0.5 s. None uses uvloop; arq uses hiredis, because it requires it. arq does
not accept the redis-py that taskiq requires, so it gets a virtual environment of its own in a
temporary folder. BullMQ (the packages bullmq and ioredis) is installed by npm into such a folder, if
there is Node.js, and runs 1000 concurrent tasks in one process. Sidekiq, which has no results, is
Debian's ruby-sidekiq with its default of 10 threads. Contenders that need seconds for 12,000 tasks get
fewer of them.

**Targets** apply to the full number of tasks, not to a smaller ``--scale``.
"""

"""Messages that are sent when a transaction commits, and tasks whose transaction commits once.

A message of ``delay_on_commit`` is written into the database in the transaction of ``db.session``. The
process that has committed it publishes it at once and deletes it. What is left after a crash is found
and published by workers.

    commits    delay_on_commit: records messages and lets the session write them
    eager      delay_on_commit in eager mode: runs the tasks when the transaction commits
    databases  which database a task with once=True has its effects in
    once       once=True: a body in one transaction, with a mark of the task's id
    repeats    whether and when such a body is repeated after an error of the database
    links      the ids of what is called after such a body, the same after each delivery
    marks      the table of marks: what earlier deliveries have returned
    publisher  publishes what the transactions of an event loop have committed
    store      the table of messages: publishes them in batches, and deletes what the broker has
    relay      a worker's thread that publishes what others have left, and deletes old marks
"""

"""Workers under faults of the network and of their servers: `python -m benchmarks.faults`.

catalogue  the faults
run        one worker under one fault, and what has come of its tasks
names      of the tasks and of their keys
ours       the tasks, as tomskit runs them
stock      the same tasks for a plain Celery app
"""

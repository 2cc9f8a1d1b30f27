"""Add an entry while beat runs: ``python plan.py add ada``. ``python plan.py remove ada`` removes it."""

import sys

from app import app
from celery.schedules import schedule
from redbeat import RedBeatSchedulerEntry  # type: ignore[import-untyped]
from tasks import remind

action, name = sys.argv[1:]
entry = RedBeatSchedulerEntry(f"remind {name}", remind.name, schedule(1.0), args=[name], app=app)
if action == "add":
    entry.save()
else:
    entry.delete()

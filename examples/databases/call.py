"""Call the tasks: ``python call.py``."""

from datetime import date

from tasks import report, sell

for cents in (100, 250):
    sell.delay(cents).get(timeout=20)
print("sold:", report.delay(date(2030, 1, 1)).get(timeout=20))

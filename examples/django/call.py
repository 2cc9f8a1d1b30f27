"""Call the tasks: ``python call.py``. In a view write ``await sign_up.adelay(...)``."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from shop.tasks import count, sign_up  # noqa: E402 (Django must be set up first)

ids = [sign_up.delay(name).get(timeout=20) for name in ("Ada", "Grace")]
print(len(set(ids)), "customers have signed up, and there are", count.delay().get(timeout=20))

"""The tasks: coroutines with Django's own asynchronous queries, and a plain one."""

import asyncio

from celery import shared_task

from shop.models import Customer
from tomskit.celery import async_shared_task


@async_shared_task
async def sign_up(name: str) -> int:
    """Add a customer, and return the id."""
    await asyncio.sleep(0.01)  # stands for a call to another service
    customer = await Customer.objects.acreate(name=name)
    return int(customer.pk)


@shared_task
def count() -> int:
    """Count the customers; a plain task works as it always has."""
    return Customer.objects.count()

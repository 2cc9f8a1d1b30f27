"""A task whose effect happens once, however often its message is delivered."""

from models import Order

from tomskit.celery import async_shared_task
from tomskit.sqlalchemy.database import db


@async_shared_task(once=True)
async def place(item: str) -> int:
    order = Order(item=item)
    db.session.add(order)
    await db.session.flush()
    return order.id

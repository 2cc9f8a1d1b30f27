"""Tasks that use the configuration of the Flask application and its ``g``."""

import asyncio

from celery import shared_task
from flask import current_app, g

from tomskit.celery import async_shared_task


@async_shared_task
async def send_mail(address: str) -> str:
    g.address = address
    await asyncio.sleep(0.1)  # stands for the mail server
    return f"{current_app.config['SENDER']} to {g.address}"


@shared_task
def sender() -> str:
    return f"{current_app.config['SENDER']}"

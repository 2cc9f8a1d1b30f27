"""The views: ``flask --app views:web run``, or gunicorn, serves them."""

from app import web
from flask.typing import ResponseReturnValue
from tasks import send_mail


@web.post("/mails/<address>")
def start(address: str) -> ResponseReturnValue:
    return {"id": send_mail.delay(address).id}, 202


@web.get("/mails/<task_id>")
def status(task_id: str) -> ResponseReturnValue:
    result = send_mail.AsyncResult(task_id)
    sent = result.get() if result.successful() else None
    return {"state": result.state, "sent": sent}

"""The Flask application and its Celery app: ``celery -A app worker`` starts a worker."""

from typing import Any

from celery import Task
from flask import Flask
from typing_extensions import override

from tomskit.celery import AsyncCelery, CeleryConfig


def celery_for(flask: Flask) -> AsyncCelery:
    """A Celery app whose tasks run in the context of the Flask application."""

    class FlaskTask(Task[..., Any]):
        @override
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with flask.app_context():
                return self.run(*args, **kwargs)

    celery = AsyncCelery(flask.name, config=CeleryConfig(), task_cls=FlaskTask, include=["tasks"])
    celery.set_default()  # The tasks are this app's, in every thread.
    flask.extensions["celery"] = celery
    return celery


web = Flask("shop")
web.config["SENDER"] = "shop@example.org"
web.config.from_prefixed_env()
app = celery_for(web)

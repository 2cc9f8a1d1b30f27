"""A Django project with one app; its Celery app is made when Django starts."""

from shop.celery import app as celery_app

__all__ = ("celery_app",)

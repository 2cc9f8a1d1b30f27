"""The tables."""

from typing import ClassVar

from django.db import models


class Customer(models.Model):
    """Somebody who has signed up."""

    name: "models.CharField[str, str]" = models.CharField(max_length=100)

    objects: ClassVar[models.Manager["Customer"]] = models.Manager()

"""What tomskit uses of SQLAlchemy, redis-py, pydantic and python-dotenv that is not public, or has no types.

Each module stands for one package. What Celery and kombu have of this kind is in
`tomskit.celery._internals`.
"""

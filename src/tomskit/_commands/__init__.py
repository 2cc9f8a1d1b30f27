"""Commands of ours under ``celery``: Celery finds them by the entry points of the package.

- `workers`: ``celery -A app workers``, its options
- `supervisor`: starts the workers, passes signals on, and starts again what has died
- `doctor`: ``celery -A app doctor``, its options and its table
- `unloadable`: an app that cannot be loaded, as a setting does not fit
- `examination`: runs checks, each within a time limit
- `checks`: what is looked at
- `databases`: what is looked at in databases

Each run of ``celery`` imports the modules of the commands, of whatever app. So they import what they
need when they run.
"""

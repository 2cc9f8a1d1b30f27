"""Tasks and signatures: what the decorator makes, and what is sent from it.

    decorator         async_shared_task
    proxy             the decorated name
    task              AsyncTask and TaskCall
    contained         what all tasks of an app share: executions that keep out of each other's way
    bound             the `self` of a task, and its request
    signatures        calls and groups of calls, with their types
    workflows         group, chain and chord
    signature_base    what the classes of signatures share
    signature_checks  which signature may follow which

What users need of these is exported by `tomskit.celery`.
"""

"""Tasks and signatures: what the decorator makes, and what is sent from it.

    app_tasks         how an app makes its tasks, and which it refuses
    decorator         async_shared_task
    functions         what may be decorated
    unknown_options   options of the decorator that nobody reads
    option_values     values of options that cannot work
    periodic          every=, and the app's schedule
    bases             task classes of users
    overrides         methods that such classes replace
    proxy             the decorated name
    task              AsyncTask and TaskCall
    call_arguments    arguments of apply_async and its like
    contained         what all tasks of an app share: executions that keep out of each other's way
    forking           plain tasks that fork
    unawaited         plain tasks that return a coroutine
    hooks             hooks of a task that are to be awaited
    body              the run method, around the coroutine function
    bound             the `self` of a task, and its request
    mapping           what type checkers know of the items of map and starmap
    replacing         self.replace() in eager mode, which ends the body as in a worker
    reporting         report, by which a task tells how far it is
    signatures        calls and groups of calls, with their types
    workflows         group, chain and chord
    signature_base    what the classes of signatures share
    signature_checks  which signature may follow which

What users need of these is exported by `tomskit.celery`.
"""

"""Running coroutines: the event loop of a process, and a task's coroutine on it."""

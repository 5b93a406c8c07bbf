"""One file per task. Every module in this folder is imported, and so registered, by `synthdata.task.tasks`."""

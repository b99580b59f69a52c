"""The `garrison` command: the only place that prints or exits."""

"""The bus: the only package that imports nats.

Import its modules by name (``runtime.bus.connection``, ``runtime.bus.subjects``): each stands alone, so that a process
loads no more of it than it uses.
"""

"""The hello agent in the older, untyped form: names in a list, one method for all of them."""

from .agent import HelloWorldAgent

__all__ = ["HelloWorldAgent"]

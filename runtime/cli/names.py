"""Checks names before anything is sent: a name that can't exist is bad input, not "not found"."""

from collections.abc import Callable

from runtime.cli.exits import bad_input


def tenant(text: str) -> str:
    """A tenant's name.

    Raises:
        CommandError: No tenant can have it.
    """
    from authz.names import tenant_name

    return _checked(tenant_name, text)


def role(text: str) -> str:
    """A role's name.

    Raises:
        CommandError: No role can have it.
    """
    from authz.names import role_name

    return _checked(role_name, text)


def user(text: str) -> str:
    """A user's name.

    Raises:
        CommandError: No user can have it.
    """
    from authz.names import user_name

    return _checked(user_name, text)


def agent(text: str) -> str:
    """An agent's name.

    Raises:
        CommandError: No agent can have it.
    """
    from authz.names import agent_name

    return _checked(agent_name, text)


def capability(text: str) -> str:
    """A capability's name.

    Raises:
        CommandError: No capability can have it.
    """
    from authz.names import capability_name

    return _checked(capability_name, text)


def key_scope(label: str, subject: str | None) -> None:
    """A label, and whom data under it is about.

    Raises:
        InvalidRequestError: No key can be of that name.
    """
    from runtime.client.needs import asked_for

    asked_for(label, subject)


def _checked(check: Callable[[str], object], text: str) -> str:
    from authz.errors import AuthzError

    try:
        check(text)
    except AuthzError as error:
        raise bad_input(str(error)) from error
    return text

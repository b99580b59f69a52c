"""Why a connection did not come about: library and system errors, sorted into ``ConnectFailedError`` reasons.

Pure. The texts are ours, so that no library's words, and nothing the other side chose, reach a user unquoted.
"""

import ssl

import nats.errors

from runtime.bus.errors import ConnectFailedError
from runtime.bus.refusals import read_fault


def explain(error: Exception, url: str) -> ConnectFailedError:  # noqa: PLR0911  # one return a row
    """Sort a failed attempt to connect to `url`.

    Args:
        error: What the attempt raised.
        url: Where it went, for the message.

    Returns:
        The error to raise, chained by the caller.
    """
    if isinstance(error, ConnectFailedError):
        return error
    if isinstance(error, ssl.SSLError):
        detail = getattr(error, "verify_message", "") or error.reason or "handshake failed"
        return ConnectFailedError("tls", f"TLS with {url} failed: {detail}")
    if isinstance(error, TimeoutError):
        return ConnectFailedError("unreachable", f"no server answered at {url} in time")
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return ConnectFailedError("tls", f"{url} closed the connection during the TLS handshake")
    if isinstance(error, OSError):
        return ConnectFailedError("unreachable", f"no server is reachable at {url}")
    if isinstance(error, nats.errors.Error):
        return _explain_server_words(str(error), url)
    return ConnectFailedError("protocol", f"whoever answers at {url} is not our server: {type(error).__name__}")


def _explain_server_words(text: str, url: str) -> ConnectFailedError:
    fault = read_fault(text.removeprefix("nats: "))
    if fault.kind == "expired":
        return ConnectFailedError("expired", "the credentials have expired")
    if fault.kind in ("auth", "revoked"):
        return ConnectFailedError("auth", f"the server at {url} does not accept these credentials")
    if fault.kind == "limit":
        return ConnectFailedError("limit", f"the server at {url} takes no more connections of this account")
    if "empty response" in fault.text:
        # With TLS 1.3 a server refuses the client's certificate after the client's half of the handshake is done.
        return ConnectFailedError("tls", f"{url} closed the connection after the TLS handshake: certificate refused")
    return ConnectFailedError("protocol", f"whoever answers at {url} is not our server")

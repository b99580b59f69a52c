"""The only builder of TLS contexts: mutual TLS 1.3 under the platform's own authority, and nothing weaker.

Rules it keeps:
- SEC-8: TLS 1.3 only; the server's certificate and name are always checked; a client certificate is always
  presented
- the machine's trusted authorities are not consulted, only the one given
- a client's private key file must be private (`privatefile`), and in clear: no prompt ever appears
- `SSLKEYLOGFILE` is ignored: session keys go nowhere
"""

import ssl
from pathlib import Path

from certs.errors import ContextError
from certs.privatefile import check_private_file


def client_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """The context of every connection that the project opens.

    Args:
        ca: The platform authority's certificate, PEM.
        certificate: The client's certificate, PEM.
        key: Its private key, PEM in clear, readable by its owner only.

    Raises:
        ContextError: a file is missing or malformed, or the key is not the certificate's; `path` names it.
        PrivateFileError: the key's file is open to others or someone else's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    _trust_only(context, ca)
    _present(context, certificate, key)
    return context


def _trust_only(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise ContextError(ca, _reason(error, "it holds no PEM certificate")) from error


def _present(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    if not certificate.is_file():
        raise ContextError(certificate, "no such file")
    try:
        check_private_file(key)
    except OSError as error:
        raise ContextError(key, _reason(error, "it can't be read")) from error
    try:
        context.load_cert_chain(certificate, key, password=_no_prompt)
    except OSError as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise ContextError(key, f"it is not the key of `{certificate}`") from error
        malformed = "it and its key are not a PEM certificate and PEM key in clear"
        raise ContextError(certificate, _reason(error, malformed)) from error


def _no_prompt() -> str:
    """Without this OpenSSL asks on the terminal for the password of an encrypted key."""
    return ""


def _reason(error: OSError, malformed: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    return malformed

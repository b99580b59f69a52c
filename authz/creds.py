"""The credentials file of NATS: a user's JWT with its seed, in the form that every NATS client reads.

Rules it keeps: reading is total and strict (exactly one JWT and one user seed); nothing prints the seed. It
does no file I/O, and does not verify the JWT: `authz.tokens` does.

Format: https://docs.nats.io/using-nats/developer/connecting/creds
"""

import re
from dataclasses import dataclass

from authz.errors import CredsFormatError, KeyFormatError
from authz.keys import UserSeed
from authz.tokens import MAX_USER_TOKEN

MAX_CREDS_FILE = MAX_USER_TOKEN + 2048  # characters: a token, a seed and the text around them

_BLOCK = re.compile(r"-{3,}BEGIN ([A-Z ]+)-{3,}\s+([A-Za-z0-9_.=-]+)\s+-{3,}END \1-{3,}")
_JWT_LABEL = "NATS USER JWT"
_SEED_LABEL = "USER NKEY SEED"

_TEMPLATE = """\
-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

************************* IMPORTANT *************************
The seed below is secret: whoever has it can sign in as this user.

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------

*************************************************************
"""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Creds:
    """A user's JWT and seed. Prints neither."""

    jwt: str
    seed: UserSeed

    def __repr__(self) -> str:
        return f"Creds(user={self.seed.public.text!r}, jwt=<redacted>, seed=<redacted>)"


def format_creds(creds: Creds) -> str:
    """The file's text. It holds the seed: write it with mode 0600 only."""
    return _TEMPLATE.format(jwt=creds.jwt, seed=creds.seed.reveal())


def parse_creds(text: str) -> Creds:
    """Read a credentials file's text.

    Raises:
        CredsFormatError: it is not one. Never holds any of the text.
    """
    if len(text) > MAX_CREDS_FILE:
        raise CredsFormatError(fault=f"it is longer than {MAX_CREDS_FILE} characters")
    blocks = _BLOCK.findall(text)
    jwt = _only_block(blocks, _JWT_LABEL)
    try:
        seed = UserSeed.parse(_only_block(blocks, _SEED_LABEL))
    except KeyFormatError as error:
        raise CredsFormatError(fault=str(error)) from error
    return Creds(jwt=jwt, seed=seed)


def _only_block(blocks: list[tuple[str, str]], label: str) -> str:
    found = [content for name, content in blocks if name == label]
    if len(found) != 1:
        raise CredsFormatError(fault=f"it has {len(found)} `{label}` blocks instead of one")
    return found[0]

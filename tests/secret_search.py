"""Looks for secrets in whatever a platform wrote, printed, or is made of."""

import base64
import re
import stat
from pathlib import Path

from certs.keystore import KeyStore

SEED = re.compile(rb"\bS[OAUNCX][A-Z2-7]{56}\b")
PRIVATE_KEY = re.compile(rb"-----BEGIN (?:EC )?PRIVATE KEY-----\s+(\S{40,})")


def secrets_in(text: bytes) -> set[bytes]:
    """Every seed, and the beginning of every private key."""
    plain = text.replace(b"\\n", b"\n")
    return set(SEED.findall(plain)) | {match.group(1)[:40] for match in PRIVATE_KEY.finditer(plain)}


def secrets_stored(keystore: KeyStore) -> set[bytes]:
    return set().union(*(secrets_in(keystore.get(name)) for name in keystore.names()))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def places_of(secrets: set[bytes], texts: dict[str, bytes]) -> set[str]:
    """Which of the texts holds one of the secrets, plain or in base64 at any of its three offsets."""
    forms = set(secrets)
    for secret in secrets:
        forms |= {base64.b64encode(b"x" * shift + secret)[4:-4] for shift in range(3)}
    return {name for name, text in texts.items() if any(form in text for form in forms)}


def others_can_read(path: Path) -> bool:
    return path.is_file() and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def holds(path: Path, secrets: set[bytes]) -> bool:
    return bool(places_of(secrets, {"": path.read_bytes()}))

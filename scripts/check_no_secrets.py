"""Refuse generated keys, credentials, certificates and state in git: scans every tracked file."""

import re
import subprocess
import sys
from pathlib import Path

FORBIDDEN_NAMES = re.compile(r"\.(creds|nk|pem|jwt|key|p12)$|(^|/)(master\.key|jetstream)(/|$)")
# An NKey seed is `S`, a kind letter, then 56 base32 characters; whatever looks like one is taken for real.
FORBIDDEN_TEXT = re.compile(
    rb"\bS[OAUNCX][A-Z2-7]{56}\b|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\n|-----BEGIN NATS USER JWT-----\neyJ"
)


def tracked_files() -> list[Path]:
    """Every file git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603 - fixed argv
    return [path for name in listed.decode().split("\0") if name and (path := Path(name)).is_file()]


def main() -> int:
    """Print each offending file; exit 1 when there is one."""
    bad = [f for f in tracked_files() if FORBIDDEN_NAMES.search(str(f)) or FORBIDDEN_TEXT.search(f.read_bytes())]
    for path in bad:
        print(f"secret or generated state in git: {path}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""Credentials folders for tests, as `garrison creds issue` would write them."""

import json
from pathlib import Path

from fixtures_server import Realm

from authz.creds import Creds, format_creds


def write_client_folder(realm: Realm, folder: Path, creds: Creds, *, control: str = "") -> Path:
    """A folder that `Client.connect` takes, for a user of the test server; `control` is the key that it pins."""
    folder.mkdir(mode=0o700)
    certificate, key = realm.new_client_files()
    files = {
        "user.creds": format_creds(creds).encode(),
        "client.pem": certificate.read_bytes(),
        "client-key.pem": key.read_bytes(),
        "ca.pem": realm.ca_file.read_bytes(),
        "context.json": json.dumps(
            {
                "url": realm.server.url or "tls://127.0.0.1:4222",
                "creds": str(folder / "user.creds"),
                "garrison": {"tenant": "alpha", "name": "amy", "role": "nurse"}
                | ({"control": control} if control else {}),
            }
        ).encode(),
    }
    for name, content in files.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)
    return folder

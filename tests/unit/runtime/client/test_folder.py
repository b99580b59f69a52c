import json
import time
from pathlib import Path

import pytest

from authz.claims import UserClaims
from authz.creds import Creds, format_creds
from authz.keys import AccountSeed, UserSeed
from authz.tokens import encode_user
from runtime.client import FolderError
from runtime.client.folder import read_folder


def creds_for(name: str = "amy", *, seed: UserSeed | None = None) -> Creds:
    account, role, own = AccountSeed.generate(), AccountSeed.generate(), UserSeed.generate()
    claims = UserClaims(
        name=name,
        subject=own.public,
        issuer=role.public,
        issuer_account=account.public,
        issued_at=int(time.time()),
        expires_at=int(time.time()) + 3600,
        permissions=None,
    )
    return Creds(jwt=encode_user(claims, role), seed=seed or own)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete folder, but for the certificates: `read_folder` does not read those."""
    path = tmp_path / "amy"
    path.mkdir(mode=0o700)
    (path / "user.creds").touch(mode=0o600)
    (path / "user.creds").write_text(format_creds(creds_for()))
    write_context(path, url="tls://127.0.0.1:4222", garrison={"tenant": "alpha", "name": "amy", "role": "nurse"})
    return path


def write_context(folder: Path, **fields: object) -> None:
    (folder / "context.json").write_text(json.dumps(fields))


def test_a_folder_says_who_it_belongs_to(folder: Path) -> None:
    found = read_folder(folder)
    assert (found.name, found.tenant, found.role, found.url) == ("amy", "alpha", "nurse", "tls://127.0.0.1:4222")
    assert found.user == found.load_creds().seed.public.text


def test_a_folder_may_be_moved_though_its_context_holds_absolute_paths(folder: Path, tmp_path: Path) -> None:
    write_context(folder, url="tls://127.0.0.1:4222", creds=str(folder / "user.creds"), ca=str(folder / "ca.pem"))
    (folder / "ca.pem").touch()
    moved = folder.rename(tmp_path / "moved")
    found = read_folder(moved)
    assert (found.creds, found.ca) == (moved / "user.creds", moved / "ca.pem")


def test_a_relative_path_counts_from_the_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "user.creds").rename(tmp_path / "else.creds")
    write_context(folder, url="tls://127.0.0.1:4222", creds="../else.creds")
    assert read_folder(folder).creds == folder / "../else.creds"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_credentials_that_others_may_read_are_refused_with_the_command_that_mends_it(folder: Path, mode: int) -> None:
    (folder / "user.creds").chmod(mode)
    with pytest.raises(FolderError, match="open to others") as caught:
        read_folder(folder)
    assert caught.value.remedy == f"chmod 600 {folder / 'user.creds'}"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="not a credentials folder"):
        read_folder(tmp_path / "nobody")


@pytest.mark.parametrize("missing", ["user.creds", "context.json"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(FolderError, match=missing.replace(".", r"\.")):
        read_folder(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 30_000, b'{"url": 3}', b" " * 100_000])
def test_a_context_that_is_none_is_one_clear_error(folder: Path, content: bytes) -> None:
    (folder / "context.json").write_bytes(content)
    with pytest.raises(FolderError) as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:4222", "http://127.0.0.1:1", "tls://127.0.0.1", "tls://:4222", "tls://h:99999", "tls://u:p@h:1"],
)
def test_an_address_that_is_not_a_servers_is_refused(folder: Path, url: str) -> None:
    write_context(folder, url=url)
    with pytest.raises(FolderError, match="server address"):
        read_folder(folder)


@pytest.mark.parametrize("content", ["", "x", "\x00" * 100, "é", "A" * 200_000])
def test_a_damaged_credentials_file_is_one_clear_error_without_its_content(folder: Path, content: str) -> None:
    (folder / "user.creds").write_text(content, encoding="utf-8")
    with pytest.raises(FolderError) as caught:
        read_folder(folder)
    assert not content or content not in str(caught.value)


def test_a_flipped_bit_in_the_jwt_is_found_before_anything_is_sent(folder: Path) -> None:
    creds = creds_for()
    (folder / "user.creds").write_text(format_creds(Creds(jwt=creds.jwt[:-6] + "AAAAAA", seed=creds.seed)))
    with pytest.raises(FolderError, match="no usable JWT"):
        read_folder(folder)


def test_the_seed_of_another_user_is_refused(folder: Path) -> None:
    (folder / "user.creds").write_text(format_creds(creds_for(seed=UserSeed.generate())))
    with pytest.raises(FolderError, match="another user"):
        read_folder(folder)


def test_no_seed_is_in_what_a_folder_prints(folder: Path) -> None:
    found = read_folder(folder)
    seed = found.load_creds().seed.reveal()
    assert seed not in repr(found)
    assert seed not in repr(found.load_creds())


def test_missing_certificates_are_named_when_the_connection_needs_them(folder: Path) -> None:
    with pytest.raises(FolderError, match=r"ca\.pem"):
        read_folder(folder).tls_context()


def test_a_folder_pins_the_key_of_the_control_plane(folder: Path) -> None:
    control = AccountSeed.generate().public.text
    write_context(folder, url="tls://127.0.0.1:4222", garrison={"tenant": "alpha", "control": control})
    assert read_folder(folder).control == control


def test_a_folder_from_before_sealed_calls_pins_nothing_and_is_usable(folder: Path) -> None:
    assert read_folder(folder).control == ""


@pytest.mark.parametrize("control", ["", "A", 7, None, UserSeed.generate().public.text], ids=range(5))
def test_what_pins_no_key_of_an_account_is_refused_and_never_taken_for_no_pin(folder: Path, control: object) -> None:
    write_context(folder, url="tls://127.0.0.1:4222", garrison={"tenant": "alpha", "control": control})
    with pytest.raises(FolderError, match="control plane") as caught:
        read_folder(folder)
    assert "garrison creds issue" in caught.value.remedy

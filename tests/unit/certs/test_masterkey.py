"""Where the master key comes from, and that it stays inside."""

import base64
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import InvalidToken

from certs.errors import ForeignOwnerError, LoosePermissionsError, MasterKeyError, PrivateFileError
from certs.masterkey import MasterKey


def opens(one: MasterKey, other: MasterKey) -> bool:
    return one.open(other.seal(b"x")) == b"x"


def test_a_key_is_made_at_first_use_for_owner_only_and_found_again(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "platform"
    first = MasterKey.load(directory=directory, environ={})
    assert opens(MasterKey.load(directory=directory, environ={}), first)
    assert (directory / "master.key").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


def test_the_variable_comes_before_the_named_file_before_the_own_file(tmp_path: Path) -> None:
    named = tmp_path / "named"
    named.write_text(MasterKey.generate())
    named.chmod(0o600)
    variable = MasterKey.generate()
    by_file = {"GARRISON_MASTER_KEY_FILE": str(named)}
    by_both = by_file | {"GARRISON_MASTER_KEY": variable}
    assert opens(MasterKey.load(directory=tmp_path, environ=by_both), MasterKey(variable, source="a test"))
    assert opens(MasterKey.load(directory=tmp_path, environ=by_file), MasterKey(named.read_text(), source="a test"))
    assert not (tmp_path / "master.key").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("correct horse battery staple", "not 32 bytes"),
        (base64.urlsafe_b64encode(b"x" * 31).decode(), "31 bytes"),
        (base64.urlsafe_b64encode(b"x" * 33).decode(), "33 bytes"),
        ("é" * 44, "not 32 bytes"),
    ],
)
@pytest.mark.parametrize("by", ["variable", "file", "own"])
def test_a_malformed_key_is_an_error_wherever_it_is_and_is_not_repeated(
    tmp_path: Path, by: str, text: str, reason: str
) -> None:
    file = tmp_path / ("master.key" if by == "own" else "named")
    file.write_text(text)
    file.chmod(0o600)
    environ = {
        "variable": {"GARRISON_MASTER_KEY": text},
        "file": {"GARRISON_MASTER_KEY_FILE": str(file)},
        "own": {},
    }[by]
    with pytest.raises(MasterKeyError) as raised:
        MasterKey.load(directory=tmp_path, environ=environ)
    assert reason in str(raised.value) or "other bytes" in str(raised.value)
    assert not text.strip() or text not in str(raised.value)
    assert file.read_text() == text


def test_a_key_may_end_in_a_newline() -> None:
    text = MasterKey.generate()
    assert MasterKey(text + "\n", source="a test").key_id == MasterKey(text, source="a test").key_id


@pytest.mark.parametrize("value", ["", "/nowhere/at/all"])
def test_a_named_file_that_is_not_there_is_an_error_and_no_key_is_made(tmp_path: Path, value: str) -> None:
    with pytest.raises(MasterKeyError):
        MasterKey.load(directory=tmp_path, environ={"GARRISON_MASTER_KEY_FILE": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["named", "master.key"])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(MasterKey.generate())
    file.chmod(0o644)
    environ = {"GARRISON_MASTER_KEY_FILE": str(file)} if name == "named" else {}
    with pytest.raises(LoosePermissionsError, match="chmod 600"):
        MasterKey.load(directory=tmp_path, environ=environ)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_file_of_another_owner_is_refused(tmp_path: Path) -> None:
    MasterKey.load(directory=tmp_path, environ={})
    os.chown(tmp_path / "master.key", 65534, 65534)
    with pytest.raises(ForeignOwnerError):
        MasterKey.load(directory=tmp_path, environ={})


def test_a_symlink_is_followed_where_the_operator_named_it_only(tmp_path: Path) -> None:
    target = tmp_path / "mounted" / "key"
    target.parent.mkdir()
    target.write_text(MasterKey.generate())
    target.chmod(0o600)
    (tmp_path / "master.key").symlink_to(target)
    environ = {"GARRISON_MASTER_KEY_FILE": str(tmp_path / "master.key")}
    assert MasterKey.load(directory=tmp_path, environ=environ).key_id
    with pytest.raises(PrivateFileError, match="symlink"):
        MasterKey.load(directory=tmp_path, environ={})


def test_a_dangling_symlink_planted_before_first_use_makes_no_key(tmp_path: Path) -> None:
    (tmp_path / "master.key").symlink_to(tmp_path / "mallory")
    with pytest.raises(PrivateFileError, match="symlink"):
        MasterKey.load(directory=tmp_path, environ={})
    assert not (tmp_path / "mallory").exists()


def test_of_many_first_uses_at_once_all_get_the_same_key(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def load(_: int) -> str:
        start.wait()
        return MasterKey.load(directory=tmp_path / "platform", environ={}).key_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load, range(8)))) == 1
    assert [file.name for file in (tmp_path / "platform").iterdir()] == ["master.key"]


def test_two_keys_have_two_ids_and_do_not_open_each_others_seals() -> None:
    one, other = (MasterKey(MasterKey.generate(), source="a test") for _ in range(2))
    assert one.key_id != other.key_id
    with pytest.raises(InvalidToken):
        one.open(other.seal(b"x"))


def test_a_master_key_is_neither_printed_nor_pickled() -> None:
    text = MasterKey.generate()
    key = MasterKey(text, source="a test")
    raw = base64.urlsafe_b64decode(text)
    for shown in (repr(key), str(key), f"{key}"):
        assert text not in shown
        assert raw.hex() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)

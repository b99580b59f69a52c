"""The key store: what it keeps, and each attack on its folder."""

import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from certs.errors import (
    ForeignOwnerError,
    KeyDamagedError,
    KeyExistsError,
    KeyNameError,
    KeyNotFoundError,
    KeyTooLargeError,
    LoosePermissionsError,
    PrivateFileError,
    StoreVersionError,
    WrongMasterKeyError,
)
from certs.keystore import KEY_LIMIT, KeyStore
from certs.masterkey import MasterKey

NAME = "tenants/st-marys/roles/agent:vitals"
FILE = "tenants%2Fst-marys%2Froles%2Fagent%3Avitals"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def master() -> MasterKey:
    return MasterKey(MasterKey.generate(), source="a test")


@pytest.fixture
def store(tmp_path: Path, master: MasterKey) -> KeyStore:
    return KeyStore(tmp_path / "keys", master)


def test_a_key_that_was_never_stored_is_not_found(store: KeyStore) -> None:
    with pytest.raises(KeyNotFoundError, match=f"no key named `{NAME}`"):
        store.get(NAME)


@pytest.mark.parametrize("data", [b"", b"\n", b"seed", b"a\nb\n\n", bytes(range(256)), b"x" * KEY_LIMIT])
def test_what_was_put_is_got_back_by_another_store(store: KeyStore, master: MasterKey, data: bytes) -> None:
    store.put(NAME, data)
    assert KeyStore(store.directory, master).get(NAME) == data


def test_put_replaces_and_put_new_does_not(store: KeyStore) -> None:
    store.put_new(NAME, b"one")
    store.put(NAME, b"two")
    with pytest.raises(KeyExistsError):
        store.put_new(NAME, b"three")
    assert store.get(NAME) == b"two"


def test_names_are_listed_sorted_without_the_stores_own_files(store: KeyStore) -> None:
    for name in ("b", "a/b", "a:b", "a"):
        store.put(name, b"x")
    assert store.names() == ("a", "a/b", "a:b", "b")


def test_a_deleted_key_is_gone_and_cannot_be_deleted_twice(store: KeyStore) -> None:
    store.put(NAME, b"seed")
    store.delete(NAME)
    assert store.names() == ()
    with pytest.raises(KeyNotFoundError):
        store.delete(NAME)


def test_nothing_of_a_key_is_readable_in_its_file(store: KeyStore) -> None:
    store.put(NAME, b"SECRET-SECRET-SECRET")
    assert b"SECRET" not in (store.directory / FILE).read_bytes()


def test_files_are_for_their_owner_only_whatever_the_umask(tmp_path: Path, master: MasterKey) -> None:
    before = os.umask(0)
    try:
        store = KeyStore(tmp_path / "keys", master)
        store.put(NAME, b"x")
    finally:
        os.umask(before)
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in store.directory.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "/a",
        "a/",
        "a//b",
        ".keystore",
        "a b",
        "a\n",
        "a\0",
        "ä",
        "x" * 201,
        "a/" * 99,
    ],
)
def test_a_name_that_could_leave_the_folder_is_refused(store: KeyStore, name: str) -> None:
    for attempt in (store.get, store.delete, lambda n: store.put(n, b"x"), lambda n: store.put_new(n, b"x")):
        with pytest.raises(KeyNameError) as raised:
            attempt(name)
        assert "\n" not in str(raised.value)
    assert store.names() == ()


def test_a_key_over_the_limit_is_refused_and_changes_nothing(store: KeyStore) -> None:
    store.put(NAME, b"old")
    with pytest.raises(KeyTooLargeError, match="over the limit"):
        store.put(NAME, b"x" * (KEY_LIMIT + 1))
    assert store.get(NAME) == b"old"


def test_a_file_moved_to_another_name_does_not_open(store: KeyStore) -> None:
    store.put("tenants/mallory", b"mallory's")
    store.put("tenants/alice", b"alice's")
    shutil.copy(store.directory / "tenants%2Fmallory", store.directory / "tenants%2Falice")
    with pytest.raises(KeyDamagedError, match="sealed for another name"):
        store.get("tenants/alice")


def test_a_file_cut_short_at_any_byte_does_not_open(store: KeyStore) -> None:
    store.put(NAME, b"seed")
    file = store.directory / FILE
    whole = file.read_bytes()
    for size in range(len(whole) - 1):  # only the final newline carries nothing
        file.write_bytes(whole[:size])
        with pytest.raises(KeyDamagedError, match="restore it from a backup"):
            store.get(NAME)


def test_a_file_with_one_bit_changed_does_not_open_or_is_unchanged(store: KeyStore) -> None:
    store.put(NAME, b"seed")
    file = store.directory / FILE
    whole = file.read_bytes()
    for index in range(len(whole)):
        file.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        try:
            assert store.get(NAME) == b"seed"  # the clear line, and base64's unused bits, carry nothing
        except KeyDamagedError:
            continue


def test_a_file_that_is_no_key_at_all_is_damaged(store: KeyStore) -> None:
    store.put(NAME, b"seed")
    (store.directory / FILE).write_bytes(b"hello")
    with pytest.raises(KeyDamagedError, match="not a sealed key"):
        store.get(NAME)


def test_a_file_blown_up_is_refused_before_it_is_read_whole(store: KeyStore) -> None:
    store.put(NAME, b"seed")
    os.truncate(store.directory / FILE, 1 << 40)  # sparse
    with pytest.raises(PrivateFileError, match="larger than"):
        store.get(NAME)


def test_another_master_key_is_refused_before_anything_is_written(store: KeyStore) -> None:
    store.put(NAME, b"seed")
    before = {file.name: file.read_bytes() for file in store.directory.iterdir()}
    other = MasterKey(MasterKey.generate(), source="a test")
    with pytest.raises(WrongMasterKeyError) as raised:
        KeyStore(store.directory, other)
    assert raised.value.given == other.key_id
    assert raised.value.sealed_under in before[FILE].decode()
    assert before == {file.name: file.read_bytes() for file in store.directory.iterdir()}


def test_another_master_key_is_noticed_though_the_marker_was_lost(store: KeyStore) -> None:
    store.put(NAME, b"seed")
    (store.directory / ".keystore").unlink()
    with pytest.raises(WrongMasterKeyError):
        KeyStore(store.directory, MasterKey(MasterKey.generate(), source="a test"))
    assert not (store.directory / ".keystore").exists()


def test_a_key_brought_from_another_store_names_the_master_key_it_needs(tmp_path: Path, store: KeyStore) -> None:
    other = KeyStore(tmp_path / "other", MasterKey(MasterKey.generate(), source="a test"))
    for each in (store, other):
        each.put(NAME, b"seed")
    shutil.copy(other.directory / FILE, store.directory / FILE)
    with pytest.raises(WrongMasterKeyError):
        store.get(NAME)


def test_a_store_of_a_newer_form_is_left_alone(store: KeyStore, master: MasterKey) -> None:
    (store.directory / ".keystore").write_text(f"GARRISON-KEYSTORE-V2 {master.key_id}\n")
    with pytest.raises(StoreVersionError, match=r"GARRISON-KEYSTORE-V2.*use the version that made it"):
        KeyStore(store.directory, master)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o601])
def test_a_key_file_open_to_others_is_refused_with_the_way_out(store: KeyStore, mode: int) -> None:
    store.put(NAME, b"seed")
    (store.directory / FILE).chmod(mode)
    with pytest.raises(LoosePermissionsError) as raised:
        store.get(NAME)
    assert raised.value.remedy == f"chmod 600 {store.directory / FILE}"
    assert f"mode {mode:04o}" in str(raised.value)


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777, 0o1777])
def test_a_folder_open_to_others_is_refused_for_every_operation(store: KeyStore, master: MasterKey, mode: int) -> None:
    store.put(NAME, b"seed")
    store.directory.chmod(mode)
    for attempt in (
        lambda: KeyStore(store.directory, master),
        lambda: store.get(NAME),
        lambda: store.put(NAME, b"x"),
        lambda: store.put_new("new", b"x"),
        lambda: store.delete(NAME),
        store.names,
    ):
        with pytest.raises(LoosePermissionsError, match="chmod 700"):
            attempt()
    store.directory.chmod(0o700)
    assert store.get(NAME) == b"seed"
    assert store.names() == (NAME,)


@as_root
def test_a_key_file_of_another_owner_is_refused(store: KeyStore) -> None:
    store.put(NAME, b"seed")
    os.chown(store.directory / FILE, 65534, 65534)
    with pytest.raises(ForeignOwnerError, match="belongs to user 65534"):
        store.get(NAME)


@as_root
def test_a_folder_of_another_owner_is_refused(store: KeyStore, master: MasterKey) -> None:
    os.chown(store.directory, 65534, 65534)
    with pytest.raises(ForeignOwnerError, match="chown"):
        KeyStore(store.directory, master)


def test_a_symlink_planted_for_a_key_is_not_followed(store: KeyStore, tmp_path: Path) -> None:
    store.put(NAME, b"seed")
    elsewhere = tmp_path / "elsewhere"
    shutil.move(store.directory / FILE, elsewhere)
    (store.directory / FILE).symlink_to(elsewhere)
    with pytest.raises(PrivateFileError, match="symlink"):
        store.get(NAME)


def test_put_replaces_a_planted_symlink_and_leaves_its_target(store: KeyStore, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (store.directory / FILE).symlink_to(victim)
    store.put(NAME, b"seed")
    assert victim.read_bytes() == b"untouched"
    assert store.get(NAME) == b"seed"


def test_a_symlink_planted_for_the_folder_is_refused(store: KeyStore, tmp_path: Path, master: MasterKey) -> None:
    (tmp_path / "link").symlink_to(store.directory)
    with pytest.raises(PrivateFileError, match="symlink"):
        KeyStore(tmp_path / "link", master)


def test_a_pipe_planted_for_a_key_does_not_hang_the_reader(store: KeyStore) -> None:
    os.mkfifo(store.directory / "pipe", 0o600)
    with pytest.raises(PrivateFileError, match="not a regular file"):
        store.get("pipe")


def test_a_socket_planted_for_a_key_is_refused(store: KeyStore) -> None:
    os.mknod(store.directory / "socket", 0o600 | stat.S_IFSOCK)
    with pytest.raises(PrivateFileError, match="can't be opened"):
        store.get("socket")


def test_a_folder_that_went_away_is_an_error_and_is_not_made_again(store: KeyStore) -> None:
    store.put(NAME, b"seed")
    shutil.rmtree(store.directory)
    for attempt in (lambda: store.get(NAME), lambda: store.put(NAME, b"x"), store.names):
        with pytest.raises(PrivateFileError, match="does not exist"):
            attempt()
    assert not store.directory.exists()


def test_a_store_without_marker_or_sealed_keys_is_a_new_one(store: KeyStore) -> None:
    (store.directory / ".keystore").unlink()
    (store.directory / "README").touch(0o600)
    other = KeyStore(store.directory, MasterKey(MasterKey.generate(), source="a test"))
    other.put(NAME, b"seed")
    assert other.get(NAME) == b"seed"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path, master: MasterKey) -> None:
    (tmp_path / "keys").write_text("hello")
    with pytest.raises(PrivateFileError, match="not a folder"):
        KeyStore(tmp_path / "keys", master)


def test_a_half_written_file_left_by_a_killed_writer_is_swept_away(store: KeyStore) -> None:
    leftover = store.directory / ".tmp-0123456789abcdef"
    leftover.write_bytes(b"half of a k")
    assert store.names() == ()
    store.put(NAME, b"seed")
    assert not leftover.exists()


def test_writers_at_once_take_turns_and_lose_nothing(store: KeyStore, master: MasterKey) -> None:
    def write(number: int) -> None:
        own = KeyStore(store.directory, master)
        for name in (f"own-{number}", "shared"):
            own.put(name, b"%d" % number * 1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(10, 50)))
    assert {store.get(f"own-{number}") for number in range(10, 50)} == {b"%d" % n * 1000 for n in range(10, 50)}
    assert len(store.get("shared")) == 2000


def test_a_store_prints_no_secret(store: KeyStore, master: MasterKey) -> None:
    assert "redacted" in repr(store)
    assert master.key_id in repr(store)

import asyncio
import os

import pytest
from fixtures_server import JETSTREAM, MakeRealm, Realm, limits

from runtime.bus.blobs import BlobStore
from runtime.bus.buckets import Bucket
from runtime.bus.connection import Connection
from runtime.bus.errors import (
    BusError,
    ConnectionLostError,
    InvalidSubjectError,
    KeyExistsError,
    RevisionMismatchError,
    StorageError,
    StorageUnavailableError,
)
from runtime.bus.journal import AppendStream


@pytest.fixture
async def connection(realm: Realm) -> Connection:
    return await realm.connect(realm.user(realm.accounts["ALPHA"]))


@pytest.fixture
async def bucket(connection: Connection) -> Bucket:
    return await Bucket.open(connection, "tenants")


async def test_missing_key_is_none_and_an_empty_bucket_is_empty(bucket: Bucket) -> None:
    assert await bucket.get("st-marys") is None
    assert await bucket.all() == {}
    assert await bucket.keys() == ()


async def test_what_was_put_is_read_with_its_revision(bucket: Bucket) -> None:
    first = await bucket.put("a", b"1")
    second = await bucket.put("a", b"2")
    entry = await bucket.get("a")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"2", second)
    assert second > first
    assert "1" not in repr(entry).replace(str(second), "")


async def test_create_needs_a_free_key(bucket: Bucket) -> None:
    await bucket.create("a", b"1")
    with pytest.raises(KeyExistsError) as caught:
        await bucket.create("a", b"2")
    assert (caught.value.bucket, caught.value.key) == ("tenants", "a")


async def test_deleted_key_is_gone_and_free_again(bucket: Bucket) -> None:
    await bucket.create("a", b"1")
    await bucket.delete("a")
    assert await bucket.get("a") is None
    assert await bucket.all() == {}
    await bucket.delete("never-there")
    await bucket.create("a", b"2")
    assert (await bucket.all())["a"].value == b"2"


async def test_of_many_concurrent_updates_one_wins(bucket: Bucket) -> None:
    revision = await bucket.put("a", b"0")
    results = await asyncio.gather(
        *(bucket.update("a", str(n).encode(), revision) for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, RevisionMismatchError) for result in results) == 9


async def test_of_many_concurrent_creates_one_wins(bucket: Bucket) -> None:
    results = await asyncio.gather(*(bucket.create("a", b"x") for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, KeyExistsError) for result in results) == 9


async def test_all_reads_more_keys_than_a_page_holds(bucket: Bucket) -> None:
    await asyncio.gather(*(bucket.put(f"k{n}", str(n).encode()) for n in range(700)))
    everything = await bucket.all()
    assert len(everything) == 700
    assert everything["k699"].value == b"699"
    assert all([(await bucket.get(key)) == everything[key] for key in ("k0", "k350")])


async def test_bucket_can_be_opened_again_and_with_other_settings(bucket: Bucket, connection: Connection) -> None:
    await bucket.put("a", b"1")
    again = await Bucket.open(connection, "tenants", history=5)
    entry = await again.get("a")
    assert entry is not None
    assert entry.value == b"1"
    for value in (b"2", b"3"):
        await again.put("a", value)
    assert (await again.all())["a"].value == b"3"


@pytest.mark.parametrize("key", ["", "*", ">", "a.>", "a b", "../x", "é"])
async def test_key_that_is_no_name_is_refused(bucket: Bucket, key: str) -> None:
    for operation in (bucket.get(key), bucket.put(key, b""), bucket.create(key, b""), bucket.delete(key)):
        with pytest.raises(InvalidSubjectError):
            await operation


async def test_acknowledged_writes_survive_a_killed_server(realm: Realm, connection: Connection) -> None:
    # P4, here for the store alone.
    bucket = await Bucket.open(connection, "tenants")
    journal = await AppendStream.open(connection, "AUDIT", "audit.records")
    blobs = await BlobStore.open(connection, "snapshots")
    content = os.urandom(1 << 20)
    await blobs.put_blob("sha256-x", content)
    acknowledged: list[str] = []

    async def write(worker: int) -> None:
        for n in range(1000):
            key = f"w{worker}n{n}"
            try:
                await bucket.put(key, key.encode())
                await journal.append(key.encode())
            except BusError:
                return
            acknowledged.append(key)

    writers = [asyncio.create_task(write(worker)) for worker in range(8)]
    while len(acknowledged) < 200:  # noqa: ASYNC110  # a counter, on purpose
        await asyncio.sleep(0.001)
    await realm.server.kill()
    await asyncio.gather(*writers)
    await realm.start()
    again = await realm.connect(realm.user(realm.accounts["ALPHA"]))
    stored = await (await Bucket.open(again, "tenants")).all()
    records = await (await AppendStream.open(again, "AUDIT", "audit.records")).read(1, 100_000)
    assert set(acknowledged) <= set(stored)
    assert set(acknowledged) <= {data.decode() for _, data in records}
    assert await (await BlobStore.open(again, "snapshots")).get_blob("sha256-x") == content


async def test_writing_while_the_server_is_gone_fails_at_once(realm: Realm, bucket: Bucket) -> None:
    await realm.server.kill()
    with pytest.raises((ConnectionLostError, StorageUnavailableError)):
        await bucket.put("a", b"1")


async def test_account_without_jetstream_is_one_clear_error(make_realm: MakeRealm) -> None:
    realm = await make_realm(prepare=lambda r: r.add_account("ALPHA"))
    connection = await realm.connect(realm.user(realm.accounts["ALPHA"]))
    with pytest.raises(StorageUnavailableError):
        await Bucket.open(connection, "tenants")


async def test_full_store_refuses_and_keeps_what_it_has(connection: Connection) -> None:
    bucket = await Bucket.open(connection, "small", max_bytes=20_000)
    await bucket.put("a", bytes(10_000))
    with pytest.raises(StorageUnavailableError):
        await bucket.put("b", bytes(15_000))
    assert set(await bucket.all()) == {"a"}


@pytest.mark.parametrize("size", [0, 1, 131_072, 131_073, 6 << 20])
async def test_blob_comes_back_whole(connection: Connection, size: int) -> None:
    blobs = await BlobStore.open(connection, "snapshots")
    content = os.urandom(size)
    await blobs.put_blob("sha256-x", content)
    assert await blobs.get_blob("sha256-x") == content
    assert await blobs.names() == ("sha256-x",)


async def test_blob_is_replaced_and_removed(connection: Connection) -> None:
    blobs = await BlobStore.open(connection, "snapshots")
    assert await blobs.get_blob("x") is None
    await blobs.put_blob("x", b"1")
    await blobs.put_blob("x", b"2")
    assert await blobs.get_blob("x") == b"2"
    await blobs.delete_blob("x")
    await blobs.delete_blob("x")
    assert await blobs.get_blob("x") is None
    assert await blobs.names() == ()


async def test_blob_over_the_space_left_leaves_nothing_behind(connection: Connection) -> None:
    blobs = await BlobStore.open(connection, "snapshots", max_bytes=1 << 20)
    with pytest.raises(StorageUnavailableError):
        await blobs.put_blob("big", os.urandom(2 << 20))
    assert await blobs.get_blob("big") is None
    await blobs.put_blob("small", os.urandom(900_000))


async def test_damaged_blob_is_an_error_and_not_content(connection: Connection) -> None:
    blobs = await BlobStore.open(connection, "snapshots")
    await blobs.put_blob("x", os.urandom(300_000))
    js = connection.jetstream()
    await js.delete_msg("OBJ_snapshots", 2)
    with pytest.raises(StorageError, match="damaged"):
        await blobs.get_blob("x")


async def test_records_are_numbered_in_order_and_read_in_pages(connection: Connection) -> None:
    journal = await AppendStream.open(connection, "AUDIT", "audit.records")
    assert await journal.read(1, 10) == []
    numbers = [await journal.append(str(n).encode()) for n in range(5)]
    assert numbers == [1, 2, 3, 4, 5]
    assert await journal.read(2, 2) == [(2, b"1"), (3, b"2")]
    assert await journal.read(5, 10) == [(5, b"4")]
    assert await journal.read(6, 10) == []


async def test_large_records_are_read_over_several_batches(connection: Connection) -> None:
    journal = await AppendStream.open(connection, "AUDIT", "audit.records")
    for _ in range(60):
        await journal.append(bytes(200_000))
    assert [number for number, _ in await journal.read(1, 1000)] == list(range(1, 61))


async def test_record_given_once_is_stored_once(connection: Connection) -> None:
    journal = await AppendStream.open(connection, "AUDIT", "audit.records")
    assert await journal.append(b"x", once="h1-1") == await journal.append(b"x", once="h1-1")
    assert len(await journal.read(1, 10)) == 1


async def test_nothing_can_be_taken_out_of_an_append_only_stream(connection: Connection) -> None:
    journal = await AppendStream.open(connection, "AUDIT", "audit.records")
    await journal.append(b"x")
    from nats.js.errors import APIError

    js = connection.jetstream()
    for attempt in (js.delete_msg("AUDIT", 1), js.purge_stream("AUDIT")):
        with pytest.raises(APIError):
            await attempt
    assert len(await journal.read(1, 10)) == 1


async def test_storage_within_the_accounts_limit(make_realm: MakeRealm) -> None:
    from dataclasses import replace

    small = replace(JETSTREAM, streams=1)
    realm = await make_realm(prepare=lambda r: r.add_account("ALPHA", limits=limits(jetstream=small)))
    connection = await realm.connect(realm.user(realm.accounts["ALPHA"]))
    await Bucket.open(connection, "one")
    with pytest.raises(StorageUnavailableError, match="maximum number of streams"):
        await Bucket.open(connection, "two")

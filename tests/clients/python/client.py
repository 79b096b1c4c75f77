"""What the official Python client asks of the gateway: one line, "ok" or "FAILED", per case.

S2_ACCOUNT_ENDPOINT and S2_BASIN_ENDPOINT name the gateway, S2_ACCESS_TOKEN is a token that may do everything.
All basins are new, so cases run at once.
"""

import asyncio
import os
import sys
import traceback
import uuid
from contextlib import asynccontextmanager

from s2_sdk import (
    S2,
    AccessTokenScope,
    AppendInput,
    BasinConfig,
    Batching,
    CommandRecord,
    Compression,
    Endpoints,
    EnsureStatus,
    ExactMatch,
    FencingTokenMismatchError,
    OperationGroupPermissions,
    Permission,
    PrefixMatch,
    ReadLimit,
    ReadUnwrittenError,
    Record,
    S2ServerError,
    SeqNum,
    SeqNumMismatchError,
    StreamConfig,
    TailOffset,
    Timestamp,
    Timestamping,
    TimestampingMode,
)

CASE_TIMEOUT = 30
ROOT_TOKEN = os.environ["S2_ACCESS_TOKEN"]
FROM_START = SeqNum(0)
CASES = []


def case(function):
    CASES.append(function)
    return function


def client(token=ROOT_TOKEN, compression=Compression.NONE):
    return S2(token, endpoints=Endpoints.from_env(), compression=compression)


@asynccontextmanager
async def new_basin(compression=Compression.NONE):
    async with client(compression=compression) as s2:
        name = f"python-{uuid.uuid4().hex[:16]}"
        await s2.create_basin(name)
        yield s2, s2[name]
        await s2.delete_basin(name)


@asynccontextmanager
async def new_stream(compression=Compression.NONE, config=None):
    async with new_basin(compression) as (_, basin):
        await basin.create_stream("cases/stream é", config=config)
        yield basin["cases/stream é"]


@asynccontextmanager
async def refused(status, code):
    """What is inside must fail with this status and code."""
    try:
        yield
    except S2ServerError as error:
        assert (error.status_code, error.code) == (status, code), f"{error.status_code} {error.code}: {error}"
        assert error.message, "an error without a message"
        return
    raise AssertionError(f"not refused with {status} {code}")


def batch(*bodies, **conditions):
    return AppendInput([Record(body=body) for body in bodies], **conditions)


def bodies(records):
    return [record.body for record in records]


async def read_all(session):
    async with session:
        return [record async for read_batch in session for record in read_batch.records]


@case
async def basins_are_created_ensured_listed_and_deleted():
    async with client() as s2:
        name = f"python-{uuid.uuid4().hex[:16]}"
        config = BasinConfig(default_stream_config=StreamConfig(retention_policy=3600), create_stream_on_append=True)
        ensured = await s2.ensure_basin(name, config=config)
        assert (ensured.status, ensured.basin.name) == (EnsureStatus.CREATED, name)
        assert (await s2.ensure_basin(name, config=config)).status is EnsureStatus.CONFIG_UNCHANGED
        assert (await s2.ensure_basin(name)).status is EnsureStatus.CONFIG_UPDATED
        async with refused(409, "resource_already_exists"):
            await s2.create_basin(name)
        assert [info.name async for info in s2.list_all_basins(prefix=name)] == [name]
        await s2.delete_basin(name)
        await s2.delete_basin(name, ignore_not_found=True)


@case
async def streams_are_created_listed_and_deleted():
    async with new_basin() as (_, basin):
        names = ["a", "a/b", "a/c", "é"]
        for name in names:
            info = await basin.create_stream(name, config=StreamConfig(retention_policy="infinite"))
            assert (info.name, info.deleted_at) == (name, None)
        config = await basin.get_stream_config("a/b")
        assert (config.retention_policy, config.storage_class) == ("infinite", "express")
        page = await basin.list_streams(limit=2)
        assert ([info.name for info in page.items], page.has_more) == (names[:2], True)
        page = await basin.list_streams(prefix="a/", start_after="a/b")
        assert ([info.name for info in page.items], page.has_more) == (["a/c"], False)
        await basin.delete_stream("a")
        assert "a" not in [info.name async for info in basin.list_all_streams()]


@case
async def what_is_appended_is_read():
    async with new_stream() as stream:
        records = [
            Record(body=b"text", headers=[(b"lang", b"fr")], timestamp=1_000),
            Record(body=bytes(range(256)), headers=[(b"\xff", b"\x00"), (b"n", b"")], timestamp=2_000),
            Record(body=b"", timestamp=3_000),
        ]
        ack = await stream.append(AppendInput(records))
        assert (ack.start.seq_num, ack.end.seq_num, ack.tail.seq_num) == (0, 3, 3)
        assert (ack.start.timestamp, ack.end.timestamp) == (1_000, 3_000)
        assert await stream.check_tail() == ack.tail

        read = await stream.read(start=FROM_START)
        for number, (sent, got) in enumerate(zip(records, read.records, strict=True)):
            assert (got.seq_num, got.body, got.headers) == (number, sent.body, sent.headers)
            assert got.timestamp == sent.timestamp
        assert read.tail == ack.tail
        for start, first in [(TailOffset(1), 2), (Timestamp(1_001), 1), (SeqNum(2), 2)]:
            read = await stream.read(start=start, limit=ReadLimit(count=1))
            assert [record.seq_num for record in read.records] == [first], start
        read = await stream.read(start=FROM_START, until_timestamp=2_000)
        assert [record.seq_num for record in read.records] == [0]


@case
async def sessions_append_in_order_and_end_at_limits():
    async with new_stream() as stream:
        async with stream.append_session() as session:
            tickets = [await session.submit(batch(b"%d" % i, b"-%d" % i, match_seq_num=2 * i)) for i in range(50)]
            assert [(await ticket).start.seq_num for ticket in tickets] == list(range(0, 100, 2))
        records = await read_all(stream.read_session(start=FROM_START, limit=ReadLimit(count=99)))
        assert [record.seq_num for record in records] == list(range(99))
        assert bodies(records[48:50]) == [b"24", b"-24"]


@case
async def read_sessions_follow_the_tail():
    async with new_stream() as stream:
        await stream.append(batch(b"before"))
        async with stream.read_session(start=FROM_START) as session:
            assert bodies((await anext(session)).records) == [b"before"]
            assert (await session.caught_up()).seq_num == 1
            for body in [b"one", b"two"]:
                await stream.append(batch(body))
                assert bodies((await anext(session)).records) == [body]


@case
async def waits_end_at_the_first_record_or_in_time():
    async with new_stream() as stream:
        waiting = asyncio.create_task(stream.read(start=FROM_START, wait=20))
        await stream.append(batch(b"awaited"))
        assert bodies((await waiting).records) == [b"awaited"]
        assert await read_all(stream.read_session(start=SeqNum(1), wait=0)) == []


async def compressed_sessions_carry_large_batches(compression):
    async with new_stream(compression) as stream:
        large = [b"compressible " * 75_000, os.urandom(1_000_000)]
        async with stream.append_session() as session:
            tickets = [await session.submit(batch(body)) for body in large]
            assert [(await ticket).end.seq_num for ticket in tickets] == [1, 2]
        assert (await stream.append(batch(large[0]))).end.seq_num == 3
        records = await read_all(stream.read_session(start=FROM_START, limit=ReadLimit(count=3)))
        assert bodies(records) == [*large, large[0]]
        assert bodies((await stream.read(start=SeqNum(2))).records) == large[:1]


@case
async def large_batches_fit_in_zstd():
    await compressed_sessions_carry_large_batches(Compression.ZSTD)


@case
async def large_batches_fit_in_gzip():
    await compressed_sessions_carry_large_batches(Compression.GZIP)


@case
async def large_batches_fit_without_compression():
    await compressed_sessions_carry_large_batches(Compression.NONE)


@case
async def producers_batch_records():
    async with new_stream() as stream:
        async with stream.producer(match_seq_num=0, batching=Batching(max_records=7)) as producer:
            tickets = [await producer.submit(Record(body=b"%d" % i)) for i in range(40)]
        assert [(await ticket).seq_num for ticket in tickets] == list(range(40))


@case
async def a_wrong_seq_num_is_refused_with_the_right_one():
    async with new_stream() as stream:
        await stream.append(batch(b"0", b"1", match_seq_num=0))
        try:
            await stream.append(batch(b"x", match_seq_num=0))
            raise AssertionError("appended")
        except SeqNumMismatchError as error:
            assert (error.expected_seq_num, error.status_code) == (2, 412)
        session = stream.append_session()
        good, bad = await session.submit(batch(b"2", match_seq_num=2)), await session.submit(batch(b"x", match_seq_num=2))
        assert (await good).end.seq_num == 3
        try:
            await bad
            raise AssertionError("appended")
        except SeqNumMismatchError as error:
            assert error.expected_seq_num == 3
        assert (await stream.check_tail()).seq_num == 3


@case
async def a_fence_keeps_other_writers_out():
    async with new_stream() as stream:
        await stream.append(AppendInput([CommandRecord.fence("writer-1")]))
        await stream.append(batch(b"mine", fencing_token="writer-1"))
        try:
            await stream.append(batch(b"theirs", fencing_token="writer-2"))
            raise AssertionError("appended")
        except FencingTokenMismatchError as error:
            assert (error.expected_fencing_token, error.status_code) == ("writer-1", 412)
        # Without a token nothing is asked.
        assert (await stream.append(batch(b"anyone"))).end.seq_num == 3
        read = await stream.read(start=FROM_START, ignore_command_records=True)
        assert bodies(read.records) == [b"mine", b"anyone"]


@case
async def trimmed_records_are_gone_and_the_tail_stays():
    async with new_stream() as stream:
        await stream.append(batch(b"0", b"1", b"2", b"3"))
        await stream.append(AppendInput([CommandRecord.trim(3)]))
        read = await stream.read(start=FROM_START)
        assert [record.seq_num for record in read.records] == [3, 4]
        assert read.records[1].is_command_record() and read.records[1].body == (3).to_bytes(8, "big")
        assert (await stream.check_tail()).seq_num == 5


@case
async def errors_have_status_code_and_message():
    async with new_basin() as (s2, basin):
        async with refused(404, "stream_not_found"):
            await basin["nothing"].check_tail()
        async with refused(404, "stream_not_found"):
            await read_all(basin["nothing"].read_session(start=FROM_START))
        async with refused(404, "stream_not_found"):
            await (await basin["nothing"].append_session().submit(batch(b"x")))
        async with refused(404, "basin_not_found"):
            await s2["no-such-basin"].list_streams()
        async with refused(404, "basin_not_found"):
            await s2["no-such-basin"]["s"].append(batch(b"x"))
        async with refused(422, "invalid"):
            await basin.create_stream("s", config=StreamConfig(retention_policy=0))


@case
async def timestamps_that_are_required_must_be_there():
    config = StreamConfig(timestamping=Timestamping(mode=TimestampingMode.CLIENT_REQUIRE))
    async with new_stream(config=config) as stream:
        async with refused(422, "invalid"):
            await stream.append(batch(b"timeless"))
        await stream.append(AppendInput([Record(body=b"x", timestamp=7)]))


@case
async def reading_past_the_tail_tells_the_tail():
    async with new_stream() as stream:
        await stream.append(batch(b"0"))
        try:
            await stream.read(start=SeqNum(5))
            raise AssertionError("read")
        except ReadUnwrittenError as error:
            assert (error.tail.seq_num, error.status_code) == (1, 416)
        try:
            await read_all(stream.read_session(start=SeqNum(5)))
            raise AssertionError("read")
        except ReadUnwrittenError as error:
            assert error.tail.seq_num == 1
        async with stream.read_session(start=SeqNum(5), clamp_to_tail=True) as session:
            assert (await session.caught_up()).seq_num == 1
            await stream.append(batch(b"1"))
            assert bodies((await anext(session)).records) == [b"1"]


@case
async def unknown_tokens_are_refused():
    async with client(token="unknown") as s2:
        async with refused(401, "authn"):
            await s2.list_basins()
        async with refused(401, "authn"):
            await read_all(s2["some-basin"]["s"].read_session(start=FROM_START))


@case
async def tokens_are_listed_and_revoked():
    async with client() as root:
        token_id = f"python-{uuid.uuid4().hex}"
        scope = AccessTokenScope(
            basins=PrefixMatch(""), op_groups=OperationGroupPermissions(account=Permission.READ)
        )
        token = await root.issue_access_token(token_id, scope=scope)
        async with client(token) as s2:
            await s2.list_basins()
            async with refused(403, "permission_denied"):
                await s2.create_basin(f"python-{uuid.uuid4().hex[:16]}")
            assert [info.id async for info in root.list_all_access_tokens(prefix=token_id)] == [token_id]
            async with refused(409, "resource_already_exists"):
                await root.issue_access_token(token_id, scope=scope)
            await root.revoke_access_token(token_id)
            async with refused(401, "authn"):
                await s2.list_basins()
        async with refused(404, "access_token_not_found"):
            await root.revoke_access_token(token_id)


@case
async def tokens_with_a_prefix_see_their_own_streams_only():
    async with new_basin() as (root, basin):
        await basin.create_stream("other/secret")
        scope = AccessTokenScope(
            basins=ExactMatch(basin.name),
            streams=PrefixMatch("tenant/"),
            op_groups=OperationGroupPermissions(basin=Permission.READ_WRITE, stream=Permission.READ_WRITE),
        )
        token_id = f"python-{uuid.uuid4().hex}"
        token = await root.issue_access_token(token_id, scope=scope, auto_prefix_streams=True)
        async with client(token) as s2:
            mine = s2[basin.name]
            assert (await mine.create_stream("inbox")).name == "inbox"
            async with mine["inbox"].append_session() as session:
                assert (await (await session.submit(batch(b"hello")))).end.seq_num == 1
            assert bodies(await read_all(mine["inbox"].read_session(start=FROM_START, limit=ReadLimit(count=1)))) == [b"hello"]
            assert [info.name async for info in mine.list_all_streams()] == ["inbox"]
            assert [info.name async for info in mine.list_all_streams(prefix="in")] == ["inbox"]
            async with refused(404, "stream_not_found"):
                await mine["other/secret"].check_tail()
            async with refused(403, "permission_denied"):
                await s2["another-basin"]["inbox"].check_tail()
        assert [info.name async for info in basin.list_all_streams()] == ["other/secret", "tenant/inbox"]
        assert bodies((await basin["tenant/inbox"].read(start=FROM_START)).records) == [b"hello"]
        await root.revoke_access_token(token_id)


async def run(function):
    name = function.__name__.replace("_", " ")
    try:
        await asyncio.wait_for(function(), CASE_TIMEOUT)
        print(f"ok      {name}")
        return True
    except Exception as error:
        print(f"FAILED  {name}: {type(error).__name__} {error}")
        traceback.print_exc()
        return False


async def main():
    results = await asyncio.gather(*map(run, CASES))
    return 0 if all(results) else 1


sys.exit(asyncio.run(main()))

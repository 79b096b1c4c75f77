// What the official TypeScript client asks of the gateway: one line, "ok" or "FAILED", per case.
//
// S2_ACCOUNT_ENDPOINT and S2_BASIN_ENDPOINT name the gateway, S2_ACCESS_TOKEN is a token that may do everything.
// All basins are new, so cases run at once.
//
// The client has two transports, and sessions are tried over both: "s2s" is frames over HTTP/2, "fetch" is what it uses
// in browsers, that is SSE for reading and single appends for writing.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import {
  AppendInput,
  AppendRecord,
  FencingTokenMismatchError,
  RangeNotSatisfiableError,
  S2,
  S2Error,
  SeqNumMismatchError,
} from "@s2-dev/streamstore";

const CASE_TIMEOUT_MS = 30_000;
const FROM_START = { from: { seqNum: 0 } };
const rootToken = process.env.S2_ACCESS_TOKEN;
const endpoints = { account: process.env.S2_ACCOUNT_ENDPOINT, basin: process.env.S2_BASIN_ENDPOINT };
const cases = [];

function testCase(name, run) {
  cases.push({ name, run });
}

// A case for either transport.
function sessionCase(name, run) {
  for (const transport of ["s2s", "fetch"]) testCase(`${name} (${transport})`, () => run(transport));
}

function client(options = {}) {
  return new S2({ accessToken: rootToken, endpoints, ...options });
}

function newName() {
  return `typescript-${randomUUID().slice(0, 18)}`;
}

async function inNewBasin(run, options) {
  const s2 = client(options);
  const name = newName();
  await s2.basins.create({ basin: name });
  await run(s2.basin(name), s2);
  await s2.basins.delete({ basin: name });
}

async function withNewStream(run, { transport = "s2s", ...options } = {}) {
  await inNewBasin(async (basin) => {
    await basin.streams.create({ stream: "cases/stream é" });
    const stream = basin.stream("cases/stream é", { forceTransport: transport });
    await run(stream);
    await stream.close();
  }, options);
}

const text = (...bodies) => bodies.map((body) => AppendRecord.string({ body }));
const bodies = (records) => records.map((record) => record.body);
const seqNums = (records) => records.map((record) => record.seqNum);
const numbers = (count) => Array.from({ length: count }, (_, i) => i);

async function readAll(stream, input, options) {
  const records = [];
  for await (const record of await stream.readSession(input, options)) records.push(record);
  return records;
}

function refused(promise, status, code) {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof S2Error, `${error}`);
    assert.deepEqual([error.status, error.code], [status, code], error.message);
    assert.ok(error.message, "an error without a message");
    return true;
  });
}

testCase("basins are created, ensured, listed and deleted", async () => {
  const s2 = client();
  const basin = newName();
  const config = { createStreamOnAppend: true, defaultStreamConfig: { retentionPolicy: { ageSecs: 3600 } } };
  assert.equal((await s2.basins.ensure({ basin, config })).result, "created");
  assert.equal((await s2.basins.ensure({ basin, config })).result, "noop");
  assert.equal((await s2.basins.getConfig({ basin })).createStreamOnAppend, true);
  assert.equal((await s2.basins.ensure({ basin })).result, "updated");
  await refused(s2.basins.create({ basin }), 409, "resource_already_exists");
  const listed = await s2.basins.list({ prefix: basin });
  assert.deepEqual([listed.basins.map((info) => info.name), listed.hasMore], [[basin], false]);
  await s2.basins.delete({ basin });
});

testCase("streams are created, listed and deleted", () =>
  inNewBasin(async (basin) => {
    for (const stream of ["a", "a/b", "a/c", "é"]) {
      const info = await basin.streams.create({ stream, config: { retentionPolicy: { infinite: {} } } });
      assert.equal(info.name, stream);
    }
    const config = await basin.streams.getConfig({ stream: "a/b" });
    assert.deepEqual([config.retentionPolicy, config.storageClass], [{ infinite: {} }, "express"]);
    const page = await basin.streams.list({ limit: 2 });
    assert.deepEqual([page.streams.map((info) => info.name), page.hasMore], [["a", "a/b"], true]);
    await basin.streams.delete({ stream: "a" });
    const rest = [];
    for await (const info of basin.streams.listAll()) rest.push(info.name);
    assert.deepEqual(rest, ["a/b", "a/c", "é"]);
  }),
);

testCase("what is appended is read", () =>
  withNewStream(async (stream) => {
    const bytes = Uint8Array.from(numbers(256));
    const ack = await stream.append(
      AppendInput.create([
        AppendRecord.string({ body: "texte é 🎏", headers: [["lang", "fr"]], timestamp: 1_000 }),
        AppendRecord.bytes({ body: bytes, headers: [[Uint8Array.of(255), Uint8Array.of(0)]], timestamp: 2_000 }),
      ]),
    );
    assert.deepEqual([ack.start.seqNum, ack.end.seqNum, ack.tail.seqNum], [0, 2, 2]);
    assert.deepEqual((await stream.checkTail()).tail, ack.tail);

    const asBytes = await stream.read({ start: FROM_START }, { as: "bytes" });
    assert.deepEqual(asBytes.records[1].body, bytes);
    assert.deepEqual(asBytes.records[1].headers, [[Uint8Array.of(255), Uint8Array.of(0)]]);
    assert.equal(asBytes.records[1].timestamp.getTime(), 2_000);
    const asText = await stream.read({ start: FROM_START, stop: { limits: { count: 1 } } });
    assert.deepEqual(bodies(asText.records), ["texte é 🎏"]);
    assert.deepEqual(asText.records[0].headers, [["lang", "fr"]]);
    for (const from of [{ tailOffset: 1 }, { timestamp: 1_001 }, { seqNum: 1 }]) {
      assert.deepEqual(seqNums((await stream.read({ start: { from } })).records), [1], JSON.stringify(from));
    }
    const until = await stream.read({ start: FROM_START, stop: { untilTimestamp: 2_000 } });
    assert.deepEqual(seqNums(until.records), [0]);
  }),
);

sessionCase("sessions append in order and end at limits", (transport) =>
  withNewStream(
    async (stream) => {
      const session = await stream.appendSession();
      const tickets = [];
      for (const i of numbers(50)) {
        tickets.push(await session.submit(AppendInput.create(text(`${i}`, `-${i}`), { matchSeqNum: 2 * i })));
      }
      const acks = await Promise.all(tickets.map((ticket) => ticket.ack()));
      assert.deepEqual(acks.map((ack) => ack.start.seqNum), numbers(50).map((i) => 2 * i));
      await session.close();

      const records = await readAll(stream, { start: FROM_START, stop: { limits: { count: 99 } } });
      assert.deepEqual(seqNums(records), numbers(99));
      assert.deepEqual(bodies(records.slice(48, 50)), ["24", "-24"]);
    },
    { transport },
  ),
);

sessionCase("read sessions follow the tail", (transport) =>
  withNewStream(
    async (stream) => {
      await stream.append(AppendInput.create(text("before")));
      const session = await stream.readSession({ start: FROM_START });
      const records = session[Symbol.asyncIterator]();
      assert.equal((await records.next()).value.body, "before");
      assert.equal((await session.caughtUp()).seqNum, 1);
      for (const body of ["one", "two\n\nlines", ""]) {
        await stream.append(AppendInput.create(text(body)));
        assert.equal((await records.next()).value.body ?? "", body);
      }
      await records.return();
    },
    { transport },
  ),
);

sessionCase("bytes travel unchanged", (transport) =>
  withNewStream(
    async (stream) => {
      const body = Uint8Array.from(numbers(300_000), (i) => (i * 31) % 256);
      const session = await stream.appendSession();
      await (await session.submit(AppendInput.create([AppendRecord.bytes({ body })]))).ack();
      await session.close();
      const records = await readAll(stream, { start: FROM_START, stop: { limits: { count: 1 } } }, { as: "bytes" });
      assert.deepEqual(bodies(records), [body]);
    },
    { transport },
  ),
);

testCase("large batches fit in gzip", () =>
  withNewStream(
    async (stream) => {
      const body = "compressible ".repeat(75_000);
      const session = await stream.appendSession();
      const tickets = [];
      for (const _ of numbers(3)) tickets.push(await session.submit(AppendInput.create(text(body))));
      for (const ticket of tickets) await ticket.ack();
      await session.close();
      const records = await readAll(stream, { start: FROM_START, stop: { limits: { count: 3 } } });
      assert.deepEqual(bodies(records), [body, body, body]);
    },
    { compression: "gzip" },
  ),
);

sessionCase("a wrong sequence number is refused with the right one", (transport) =>
  withNewStream(
    async (stream) => {
      const wrong = AppendInput.create(text("x"), { matchSeqNum: 0 });
      const isMismatch = (error) => error instanceof SeqNumMismatchError && error.expectedSeqNum === 2;
      await stream.append(AppendInput.create(text("0", "1"), { matchSeqNum: 0 }));
      await assert.rejects(stream.append(wrong), isMismatch);
      const session = await stream.appendSession();
      await assert.rejects(async () => (await session.submit(wrong)).ack(), isMismatch);
      await session.close().catch(() => {});
      assert.equal((await stream.checkTail()).tail.seqNum, 2);
    },
    { transport },
  ),
);

testCase("a fence keeps other writers out", () =>
  withNewStream(async (stream) => {
    await stream.append(AppendInput.create([AppendRecord.fence("writer-1")]));
    await stream.append(AppendInput.create(text("mine"), { fencingToken: "writer-1" }));
    await assert.rejects(
      stream.append(AppendInput.create(text("theirs"), { fencingToken: "writer-2" })),
      (error) => error instanceof FencingTokenMismatchError && error.expectedFencingToken === "writer-1",
    );
    const read = await stream.read({ start: FROM_START, ignoreCommandRecords: true });
    assert.deepEqual(bodies(read.records), ["mine"]);
  }),
);

sessionCase("trimmed records are gone and the tail stays", (transport) =>
  withNewStream(
    async (stream) => {
      await stream.append(AppendInput.create(text("0", "1", "2", "3")));
      await stream.append(AppendInput.create([AppendRecord.trim(3)]));
      const records = await readAll(stream, { start: FROM_START, stop: { limits: { count: 2 } } });
      assert.deepEqual(seqNums(records), [3, 4]);
      assert.deepEqual((await stream.checkTail()).tail.seqNum, 5);
    },
    { transport },
  ),
);

testCase("errors have status, code and message", () =>
  inNewBasin(async (basin, s2) => {
    const one = AppendInput.create(text("x"));
    for (const forceTransport of ["s2s", "fetch"]) {
      const missing = basin.stream("nothing", { forceTransport });
      await refused(missing.checkTail(), 404, "stream_not_found");
      await refused(missing.append(one), 404, "stream_not_found");
      await refused(readAll(missing, { start: FROM_START }), 404, "stream_not_found");
    }
    await refused(s2.basin("no-such-basin").streams.list(), 404, "basin_not_found");
    const config = { retentionPolicy: { ageSecs: 0 } };
    await refused(basin.streams.create({ stream: "s", config }), 422, "invalid");
  }),
);

sessionCase("reading past the tail tells the tail", (transport) =>
  withNewStream(
    async (stream) => {
      await stream.append(AppendInput.create(text("0")));
      const tellsTail = (error) => error instanceof RangeNotSatisfiableError && error.tail?.seqNum === 1;
      const start = { from: { seqNum: 5 } };
      await assert.rejects(stream.read({ start }), tellsTail);
      await assert.rejects(readAll(stream, { start }), (error) => error instanceof RangeNotSatisfiableError);
    },
    { transport },
  ),
);

testCase("unknown tokens are refused", async () => {
  const stranger = client({ accessToken: "unknown" });
  await refused(stranger.basins.list(), 401, "authn");
  const stream = stranger.basin("some-basin").stream("s");
  await refused(readAll(stream, { start: FROM_START }), 401, "authn");
  await stream.close();
});

testCase("tokens are listed and revoked", async () => {
  const root = client();
  const id = newName();
  const scope = { basins: { prefix: "" }, opGroups: { account: { read: true } } };
  const { accessToken } = await root.accessTokens.issue({ id, scope });
  const reader = client({ accessToken });
  await reader.basins.list();
  await refused(reader.basins.create({ basin: newName() }), 403, "permission_denied");
  await refused(root.accessTokens.issue({ id, scope }), 409, "resource_already_exists");
  const listed = await root.accessTokens.list({ prefix: id });
  assert.deepEqual(listed.accessTokens.map((info) => info.id), [id]);
  await root.accessTokens.revoke({ id });
  await refused(reader.basins.list(), 401, "authn");
  await refused(root.accessTokens.revoke({ id }), 404, "access_token_not_found");
});

for (const forceTransport of ["s2s", "fetch"]) {
  testCase(`tokens with a prefix see their own streams only (${forceTransport})`, () =>
    inNewBasin(async (basin, root) => {
      await basin.streams.create({ stream: "other/secret" });
      const id = newName();
      const { accessToken } = await root.accessTokens.issue({
        id,
        autoPrefixStreams: true,
        scope: {
          basins: { exact: basin.name },
          streams: { prefix: "tenant/" },
          opGroups: { basin: { read: true, write: true }, stream: { read: true, write: true } },
        },
      });
      const tenant = client({ accessToken });
      const mine = tenant.basin(basin.name);
      assert.equal((await mine.streams.create({ stream: "inbox" })).name, "inbox");
      const inbox = mine.stream("inbox", { forceTransport });
      const session = await inbox.appendSession();
      assert.equal((await (await session.submit(AppendInput.create(text("hello")))).ack()).end.seqNum, 1);
      await session.close();
      const records = await readAll(inbox, { start: FROM_START, stop: { limits: { count: 1 } } });
      assert.deepEqual(bodies(records), ["hello"]);
      await inbox.close();
      assert.deepEqual((await mine.streams.list()).streams.map((info) => info.name), ["inbox"]);
      await refused(mine.stream("other/secret").checkTail(), 404, "stream_not_found");
      await refused(tenant.basin("another-basin").streams.list(), 403, "permission_denied");
      const full = await basin.streams.list();
      assert.deepEqual(full.streams.map((info) => info.name), ["other/secret", "tenant/inbox"]);
      await root.accessTokens.revoke({ id });
    }),
  );
}

async function passes({ name, run }) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${CASE_TIMEOUT_MS} ms`)), CASE_TIMEOUT_MS);
  });
  try {
    await Promise.race([run(), timeout]);
    console.log(`ok      ${name}`);
    return true;
  } catch (error) {
    console.log(`FAILED  ${name}: ${error.message}`);
    console.error(error);
    return false;
  } finally {
    clearTimeout(timer);
  }
}

const results = await Promise.all(cases.map(passes));
// Pooled connections would keep the process alive.
process.exit(results.every(Boolean) ? 0 : 1);

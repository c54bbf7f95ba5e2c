// Follows one log of a2a-events from where it stopped last, and prints each event as a line of JSON.
//
// It keeps its own cursor, a file: for each shard the log's incarnation and the position of the last record that it has
// acted on. Positions are the same in the log and in every mirror of it, so the file is good in every region: copy it,
// change NATS_URL, and the service goes on there. It needs no consumer on the servers that anybody would have to move.
//
//   NATS_URL  servers of the region that it runs in     NAMESPACE  of the deployment (a2a)
//   LOG       which log to follow (main)                CURSOR     file to keep (cursor.json)
//
// A record is printed at least once: it is printed first and noted after that. Whoever must not act twice remembers
// positions together with what it did.

import { readFile, rename, writeFile } from "node:fs/promises";
import { DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const url = process.env.NATS_URL ?? "nats://127.0.0.1:4222";
const namespace = process.env.NAMESPACE ?? "a2a";
const log = process.env.LOG ?? "main";
const file = process.env.CURSOR ?? "cursor.json";
const streams = `${namespace.toUpperCase().replaceAll(".", "_")}_LOG_${log}`;

// Fields of the header A2A-Record, in order; a newer version may add further ones at the end.
const FIELDS = [
  "version", "flags", "incarnation", "id", "revision", "kinds", "generation", "epoch",
  "attempt", "role", "instance", "software", "encoding", "key", "times",
];

function unpacked(packed) {
  const values = packed.split("|");
  return Object.fromEntries(FIELDS.map((name, n) => [name, values[n]]));
}

function eventsOf(message) {
  const header = unpacked(message.headers.get("A2A-Record"));
  if (header.version !== "1") throw new Error(`record at ${message.seq} has version ${header.version}`);
  const [task, lane] = message.subject.split(".").slice(-2);
  const base = { log, position: message.seq, task, lane, role: header.role };
  if (header.encoding) {
    // Its payload is in the object store (docs/formats.md); this example says so and leaves it there.
    return [{ ...base, revision: Number(header.revision), large: JSON.parse(message.string()) }];
  }
  return message.string().split("\n").map((line, n) => ({
    ...base,
    revision: Number(header.revision) + n,
    kind: header.kinds[n],
    event: JSON.parse(line),
  }));
}

async function saved() {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return {};
    throw error;
  }
}

const cursor = await saved();
let writing = Promise.resolve();

function note(shard, incarnation, position) {
  cursor[shard] = { incarnation, position };
  // One write after the other, each whole: a file that was cut off would lose the place.
  writing = writing.then(async () => {
    await writeFile(`${file}.new`, JSON.stringify(cursor));
    await rename(`${file}.new`, file);
  });
  return writing;
}

const connection = await connect({ servers: url, name: "node-consumer", maxReconnectAttempts: -1 });
const manager = await jetstreamManager(connection);
const following = [];
let stopping = false;

async function shards() {
  const found = [];
  for (let shard = 0; ; shard++) {
    try {
      found.push(await manager.streams.info(`${streams}_${shard}`));
    } catch (error) {
      if (found.length > 0) return found;
      throw new Error(`there is no log ${log} here, nor a mirror of it: ${error.message}`);
    }
  }
}

async function follow(info, shard) {
  const stream = info.config.name;
  const incarnation = info.config.metadata["a2a-events-incarnation"];
  const before = cursor[shard];
  if (before && before.incarnation !== incarnation) {
    // The log was made anew: its positions are other places now. What stood in the old one is gone.
    console.error(JSON.stringify({ level: "warning", message: "log was made anew", stream }));
  }
  const next = before?.incarnation === incarnation ? before.position + 1 : 1;
  // An ordered consumer: nothing to create or to clean up, and it begins anew by itself after a lost connection.
  const consumer = await jetstream(connection).consumers.get(stream, {
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: next,
  });
  const messages = await consumer.consume();
  following.push(messages);
  if (stopping) await messages.close();
  console.error(JSON.stringify({ level: "info", message: "following", stream, from: next }));
  for await (const message of messages) {
    for (const event of eventsOf(message)) process.stdout.write(`${JSON.stringify(event)}\n`);
    await note(shard, incarnation, message.seq);
  }
}

async function stop() {
  stopping = true;
  await Promise.all(following.map((messages) => messages.close()));
}
process.once("SIGTERM", stop);
process.once("SIGINT", stop);

await Promise.all((await shards()).map(follow));
await writing;
await connection.drain();

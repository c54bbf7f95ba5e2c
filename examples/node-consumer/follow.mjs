// Follows one log of a2a-events from where it stopped last, and prints each event as a line of JSON.
//
// It keeps its own cursor, a file: for each shard the log's incarnation and epoch, and the position of the last record
// that it has acted on. Positions are the same in the log and in every mirror of it, so the file is good in every region:
// copy it, change NATS_URL, and the service goes on there. It needs no consumer on the servers that anybody would have to
// move.
//
// A region that takes a log over counts its epoch up, and notes where the log ended for it. What a cursor of an older
// epoch has seen after that is in no log any more, and other records stand there: they are printed.
//
//   NATS_URL  servers of the region that it runs in     NAMESPACE  of the deployment (a2a)
//   LOG       which log to follow (main)                CURSOR     file to keep (cursor.json)
//
// A record is printed at least once: it is printed first and noted after that. Whoever must not act twice remembers
// positions together with what it did.

import { readFile, rename, writeFile } from "node:fs/promises";
import { DeliverPolicy, JetStreamApiCodes, JetStreamApiError, jetstream, jetstreamManager } from "@nats-io/jetstream";
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

// Kinds of events that this consumer knows (docs/schema/event.schema.json). Others are printed as they are, unless their
// record says that nobody may go past it who does not know them.
const KINDS = "smuxcyrhptneSAMwdlLfz";
const LOOK_MILLISECONDS = 5000; // how soon a shard that was added is followed, and a log that was made anew noticed

function unpacked(packed) {
  const values = packed.split("|");
  return Object.fromEntries(FIELDS.map((name, n) => [name, values[n]]));
}

function eventsOf(message) {
  const header = unpacked(message.headers.get("A2A-Record"));
  if (header.version !== "1") throw new Error(`record at ${message.seq} has version ${header.version}`);
  const strange = [...header.kinds].filter((kind) => !KINDS.includes(kind));
  if (header.flags.includes("c") && strange.length > 0) {
    throw new Error(`record at ${message.seq} needs a reader that knows events of kind ${strange.join(", ")}`);
  }
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

function note(shard, place) {
  cursor[shard] = place;
  // One write after the other, each whole: a file that was cut off would lose the place.
  writing = writing.then(async () => {
    await writeFile(`${file}.new`, JSON.stringify(cursor));
    await rename(`${file}.new`, file);
  });
  return writing;
}

const connection = await connect({ servers: url, name: "node-consumer", maxReconnectAttempts: -1 });
const manager = await jetstreamManager(connection);
const following = new Map(); // by shard: what stops it, and when it is over
let stopping = false;
let failure = null;

function say(level, message, more) {
  console.error(JSON.stringify({ level, message, ...more }));
}

// The log's shards that there are. Only "not found" ends them: whatever else goes wrong says nothing of what is there.
async function shards() {
  const found = [];
  for (let shard = 0; ; shard++) {
    try {
      found.push(await manager.streams.info(`${streams}_${shard}`));
    } catch (error) {
      const missing = error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound;
      if (!missing) throw error;
      if (found.length > 0) return found;
      throw new Error(`there is no log ${log} here, nor a mirror of it`);
    }
  }
}

function told(info) {
  const metadata = info.config.metadata ?? {};
  return {
    incarnation: metadata["a2a-events-incarnation"],
    epoch: Number(metadata["a2a-events-epoch"] ?? 1),
    takenAt: Number(metadata["a2a-events-taken-at"] ?? 0),
  };
}

// Where a shard is followed from.
function next(place, shard, stream) {
  const before = cursor[shard];
  if (!before) return 1;
  if (before.incarnation !== place.incarnation) {
    // Its positions are other places now. What stood in the old one is gone.
    say("warning", "log was made anew", { stream });
    return 1;
  }
  const epochs = place.epoch - (before.epoch ?? 1);
  if (epochs <= 0) return before.position + 1;
  const kept = epochs === 1 ? Math.min(before.position, place.takenAt) : 0; // where others ended is not known here
  if (kept < before.position) say("warning", "log was taken over before what was seen last", { stream, from: kept + 1 });
  return kept + 1;
}

async function follow(info, shard) {
  const stream = info.config.name;
  const place = told(info);
  const from = next(place, shard, stream);
  // An ordered consumer: nothing to create or to clean up, and it begins anew by itself after a lost connection.
  const consumer = await jetstream(connection).consumers.get(stream, {
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: from,
  });
  const messages = await consumer.consume();
  const over = (async () => {
    for await (const message of messages) {
      for (const event of eventsOf(message)) process.stdout.write(`${JSON.stringify(event)}\n`);
      await note(shard, { incarnation: place.incarnation, epoch: place.epoch, position: message.seq });
    }
  })();
  over.catch(stopFor);
  following.set(shard, { ...place, close: () => messages.close(), over });
  say("info", "following", { stream, from });
}

// Follow every shard that there is: also one that was added, and one that was made anew under those who follow it.
async function look() {
  for (const [shard, info] of (await shards()).entries()) {
    const now = following.get(shard);
    const place = told(info);
    if (now?.incarnation === place.incarnation && now.epoch === place.epoch) continue;
    await now?.close();
    await now?.over;
    if (!stopping) await follow(info, shard);
  }
}

let wake = () => {};

function stop() {
  stopping = true;
  wake();
}

function stopFor(error) {
  failure ??= error;
  stop();
}
process.once("SIGTERM", stop);
process.once("SIGINT", stop);

await look();
while (!stopping) {
  await new Promise((resolve) => {
    wake = resolve;
    setTimeout(resolve, LOOK_MILLISECONDS).unref();
    if (stopping) resolve();
  });
  if (stopping) break;
  try {
    await look();
  } catch (error) {
    say("warning", "cannot look for shards now", { error: error.message });
  }
}
await Promise.allSettled([...following.values()].map(({ close }) => close()));
await Promise.allSettled([...following.values()].map(({ over }) => over));
await writing;
await connection.drain();
if (failure) throw failure;

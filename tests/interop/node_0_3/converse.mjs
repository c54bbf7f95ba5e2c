// Drives the official JavaScript client of A2A 0.3 against a gateway, and prints what it saw as one JSON document.
//
//   node converse.mjs URL BINDING     (BINDING: JSONRPC or HTTP+JSON)
//
// Each scenario is a member of the document: its result, or {"failed": "…"} with the reason.

import { randomUUID } from 'node:crypto';
import { ClientFactory, ClientFactoryOptions } from '@a2a-js/sdk/client';

const [url, binding] = process.argv.slice(2);
const UNKNOWN = 't1-main-0-AAAAAAAAAAAAAAAAAAAAAA';

function connect({ polling = false } = {}) {
  const options = ClientFactoryOptions.createFrom(ClientFactoryOptions.default, {
    preferredTransports: [binding],
    clientConfig: { polling },
  });
  return new ClientFactory(options).createFromUrl(url, '/.well-known/agent.json');
}

function saying(content, members = {}) {
  const part =
    typeof content === 'string'
      ? { kind: 'text', text: content }
      : { kind: 'data', data: { script: content } };
  return { message: { kind: 'message', messageId: randomUUID(), role: 'user', parts: [part], ...members } };
}

async function collected(stream) {
  const seen = [];
  for await (const event of stream) seen.push(event);
  return seen;
}

// What an error is called, as the client's users would tell it from others.
async function refusal(call) {
  try {
    const answer = await call();
    if (answer?.[Symbol.asyncIterator]) await collected(answer);
  } catch (error) {
    const cause = error.cause ?? error;
    return { class: cause.constructor.name, message: cause.message };
  }
  return { class: 'nothing was refused' };
}

const scenarios = {
  async card() {
    const client = await connect();
    const { name, protocolVersion, preferredTransport } = await client.getAgentCard();
    return { name, protocolVersion, preferredTransport, transport: client.transport.constructor.name };
  },

  async streamed() {
    return collected((await connect()).sendMessageStream(saying({ chunks: 12, artifacts: 3 })));
  },

  async sent() {
    const client = await connect();
    const sent = await client.sendMessage(saying({ chunks: 5, artifacts: 2 }));
    return { sent, got: await client.getTask({ id: sent.id }) };
  },

  async replied() {
    return (await connect()).sendMessage(saying({ message: true }));
  },

  async asked() {
    const client = await connect();
    const before = await collected(client.sendMessageStream(saying({ chunks: 4, inputAt: 2 })));
    const { id: taskId, contextId } = before[0];
    const after = await collected(client.sendMessageStream(saying('yes', { taskId, contextId })));
    const newest = await client.getTask({ id: taskId, historyLength: 1 });
    return { before, after, newest };
  },

  async canceled() {
    const [client, other] = [await connect({ polling: true }), await connect()];
    const begun = await client.sendMessage(saying({ chunks: 10000, delayMs: 20 }));
    const watching = other.resubscribeTask({ id: begun.id });
    const seen = [(await watching.next()).value];
    const answer = await client.cancelTask({ id: begun.id });
    seen.push(...(await collected(watching)));
    return { begun, answer, seen };
  },

  async resubscribed() {
    const [client, other] = [await connect(), await connect()];
    const stream = client.sendMessageStream(saying({ chunks: 30, delayMs: 10 }));
    const first = [(await stream.next()).value];
    while (first.filter((event) => event.kind === 'artifact-update').length < 5) {
      first.push((await stream.next()).value);
    }
    const again = other.resubscribeTask({ id: first[0].id });
    const [second, rest] = await Promise.all([collected(again), collected(stream)]);
    return { first: [...first, ...rest], second };
  },

  async file() {
    const parts = [
      { kind: 'file', file: { bytes: '+/8=', mimeType: 'image/png' } },
      { kind: 'file', file: { uri: 'https://example.com/a' } },
      { kind: 'text', text: 'look' },
    ];
    const task = await (await connect()).sendMessage(saying('', { parts }));
    return task.history[0].parts;
  },

  async refused() {
    const client = await connect();
    const { id } = await client.sendMessage(saying({ chunks: 1 }));
    return {
      'get unknown': await refusal(() => client.getTask({ id: UNKNOWN })),
      'cancel unknown': await refusal(() => client.cancelTask({ id: UNKNOWN })),
      'resubscribe to unknown': await refusal(() => client.resubscribeTask({ id: UNKNOWN })),
      'send to unknown': await refusal(() => client.sendMessage(saying('x', { taskId: UNKNOWN }))),
      'cancel ended': await refusal(() => client.cancelTask({ id })),
      'resubscribe to ended': await refusal(() => client.resubscribeTask({ id })),
      'send to ended': await refusal(() => client.sendMessage(saying('x', { taskId: id }))),
      'stream to ended': await refusal(() => client.sendMessageStream(saying('x', { taskId: id }))),
    };
  },
};

const document = {};
for (const [name, scenario] of Object.entries(scenarios)) {
  try {
    document[name] = await scenario();
  } catch (error) {
    document[name] = { failed: `${error.stack ?? error}` };
  }
}
process.stdout.write(JSON.stringify(document), () => process.exit(0));

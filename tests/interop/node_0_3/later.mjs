// Drives the official JavaScript client of A2A 1.0 against a gateway that it takes for one of 0.3, and prints what it
// saw as one JSON document.
//
//   node later.mjs URL BINDING     (BINDING: JSONRPC or HTTP+JSON)
//
// Objects are shown in the form in which the client itself writes them, that of 1.0.

import { randomUUID } from 'node:crypto';
import { Role, StreamResponse, Task } from 'a2a-js-sdk-1';
import {
  ClientFactory,
  ClientFactoryOptions,
  DefaultAgentCardResolver,
  JsonRpcTransportFactory,
  RestTransportFactory,
} from 'a2a-js-sdk-1/client';

const [url, binding] = process.argv.slice(2);
const UNKNOWN = 't1-main-0-AAAAAAAAAAAAAAAAAAAAAA';
const legacyCompat = { enabled: true };

function connect(clientConfig = {}) {
  const options = ClientFactoryOptions.createFrom(ClientFactoryOptions.default, {
    transports: [new JsonRpcTransportFactory({ legacyCompat }), new RestTransportFactory({ legacyCompat })],
    cardResolver: new DefaultAgentCardResolver({ legacyCompat }),
    preferredTransports: [binding],
    clientConfig,
  });
  return new ClientFactory(options).createFromUrl(url, '/.well-known/agent.json');
}

function saying(content, members = {}) {
  const [$case, value] = typeof content === 'string' ? ['text', content] : ['data', { script: content }];
  const parts = [{ content: { $case, value }, metadata: undefined, filename: '', mediaType: '' }];
  const empty = { contextId: '', taskId: '', metadata: undefined, extensions: [], referenceTaskIds: [] };
  const message = { messageId: randomUUID(), role: Role.ROLE_USER, parts, ...empty, ...members };
  return { tenant: '', message, configuration: undefined, metadata: undefined };
}

const task = (id, more = {}) => ({ tenant: '', id, ...more });

async function collected(stream) {
  const seen = [];
  for await (const response of stream) seen.push(StreamResponse.toJSON(response));
  return seen;
}

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    return (error.cause ?? error).constructor.name; // what came in a stream is wrapped
  }
  return 'nothing was refused';
}

const client = await connect();
const sent = await client.sendMessage(saying({ chunks: 3 }));
const asked = await collected(client.sendMessageStream(saying({ chunks: 2, inputAt: 1 })));
const taskId = asked[0].task.id;
const polling = await connect({ polling: true });
const begun = await polling.sendMessage(saying({ chunks: 10000, delayMs: 20 }));
const watching = client.resubscribeTask(task(begun.id));
const watched = [StreamResponse.toJSON((await watching.next()).value)];
const canceled = await polling.cancelTask(task(begun.id, { metadata: undefined }));
watched.push(...(await collected(watching)));
const document = {
  transport: client.transport.constructor.name,
  streamed: await collected(client.sendMessageStream(saying({ chunks: 5 }))),
  sent: Task.toJSON(sent),
  got: Task.toJSON(await client.getTask(task(sent.id))),
  asked,
  answered: await collected(client.sendMessageStream(saying('yes', { taskId }))),
  canceled: Task.toJSON(canceled),
  watched,
  refused: {
    get: await refusal(() => client.getTask(task(UNKNOWN))),
    cancel: await refusal(() => client.cancelTask(task(sent.id, { metadata: undefined }))),
    stream: await refusal(() => collected(client.sendMessageStream(saying('x', { taskId: sent.id })))),
  },
};
process.stdout.write(JSON.stringify(document), () => process.exit(0));

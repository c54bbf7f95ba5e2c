// Drives the official JavaScript client against a gateway, and prints what it saw as one JSON document.
//
//   node converse.mjs URL BINDING SCENARIO…     (BINDING: JSONRPC or HTTP+JSON)
//
// Each scenario is a member of the document: its result, or {"failed": "…"} with the reason. Objects of the protocol are
// shown in the form in which the client itself writes them.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { Role, StreamResponse, Task, TaskState } from '@a2a-js/sdk';
import {
  ClientFactory,
  ClientFactoryOptions,
  JsonRpcTransportFactory,
  RestTransportFactory,
  ServiceParameters,
  withA2AExtensions,
} from '@a2a-js/sdk/client';

const [url, binding, ...chosen] = process.argv.slice(2);
const UNKNOWN = 't1-main-0-AAAAAAAAAAAAAAAAAAAAAA';
const card = '/.well-known/agent-card.json';

function factory(clientConfig = {}) {
  const transports = [new JsonRpcTransportFactory(), new RestTransportFactory()];
  return new ClientFactory(
    ClientFactoryOptions.createFrom(ClientFactoryOptions.default, {
      transports,
      preferredTransports: [binding],
      clientConfig,
    }),
  );
}

const connect = (config) => factory(config).createFromUrl(url);

function saying(content, { configuration, ...members } = {}) {
  const part = typeof content === 'string' ? { text: content } : { data: { script: content } };
  const [[kind, value]] = Object.entries(part);
  return {
    tenant: '',
    message: {
      messageId: randomUUID(),
      contextId: '',
      taskId: '',
      role: Role.ROLE_USER,
      parts: [{ content: { $case: kind, value }, metadata: undefined, filename: '', mediaType: '' }],
      metadata: undefined,
      extensions: [],
      referenceTaskIds: [],
      ...members,
    },
    configuration,
    metadata: undefined,
  };
}

const task = (id, more = {}) => ({ tenant: '', id, ...more });
const shown = (response) => StreamResponse.toJSON(response);
const payload = (response) => Object.values(shown(response))[0];

async function collected(stream) {
  const seen = [];
  for await (const response of stream) seen.push(shown(response));
  return seen;
}

// What an error is called, as the client's users would tell it from others.
async function refusal(call) {
  try {
    const answer = await call();
    if (answer?.[Symbol.asyncIterator]) for await (const _ of answer);
  } catch (error) {
    return { name: error.name ?? error.constructor.name, class: error.constructor.name, message: error.message };
  }
  return { name: 'nothing was refused' };
}

const scenarios = {
  async card() {
    const client = await connect();
    const card = await client.getAgentCard();
    return { name: card.name, spoken: client.transport.protocolName, version: client.protocolVersion };
  },

  async streamed() {
    const client = await connect();
    return collected(client.sendMessageStream(saying({ chunks: 12, artifacts: 3 })));
  },

  async odd() {
    const client = await connect();
    const text = 'one\u2028two\u2029three\u0085four\u000bfive\u000csix\r\nseven\n\u{1f600}';
    return { text, seen: await collected(client.sendMessageStream(saying(text))) };
  },

  async sent() {
    const client = await connect();
    const made = await client.sendMessage(saying({ chunks: 5, artifacts: 2 }));
    return { sent: Task.toJSON(made), got: Task.toJSON(await client.getTask(task(made.id))) };
  },

  async replied() {
    const client = await connect();
    const reply = await client.sendMessage(saying({ message: true }));
    return { role: reply.role, text: reply.parts[0].content.value, taskId: reply.taskId };
  },

  async asked() {
    const client = await connect();
    const before = await collected(client.sendMessageStream(saying({ chunks: 4, inputAt: 2 })));
    const { id: taskId, contextId } = before[0].task;
    const after = await collected(client.sendMessageStream(saying('yes', { taskId, contextId })));
    const lengths = {};
    for (const historyLength of [0, 1, undefined]) {
      const got = await client.getTask(task(taskId, { historyLength }));
      lengths[historyLength ?? 'all'] = got.history.length;
    }
    return { before, after, lengths };
  },

  async canceled() {
    const [client, other] = [await connect({ polling: true }), await connect()];
    const begun = await client.sendMessage(saying({ chunks: 10000, delayMs: 20 }));
    const watching = other.resubscribeTask(task(begun.id));
    const seen = [shown((await watching.next()).value)];
    const answer = await client.cancelTask(task(begun.id, { metadata: undefined }));
    seen.push(...(await collected(watching)));
    return { begun: Task.toJSON(begun), answer: Task.toJSON(answer), seen };
  },

  async subscribed() {
    const [client, other] = [await connect(), await connect()];
    const stream = client.sendMessageStream(saying({ chunks: 30, delayMs: 10 }));
    const first = [shown((await stream.next()).value)];
    const { id } = first[0].task;
    while (first.filter((response) => response.artifactUpdate).length < 5) {
      first.push(shown((await stream.next()).value));
    }
    const [second, rest] = await Promise.all([collected(other.resubscribeTask(task(id))), collected(stream)]);
    return { first: [...first, ...rest], second };
  },

  async refused() {
    const client = await connect();
    const ended = await client.sendMessage(saying({ chunks: 1 }));
    return {
      'get unknown': await refusal(() => client.getTask(task(UNKNOWN))),
      'cancel unknown': await refusal(() => client.cancelTask(task(UNKNOWN, { metadata: undefined }))),
      'subscribe unknown': await refusal(() => client.resubscribeTask(task(UNKNOWN))),
      'send to unknown': await refusal(() => client.sendMessage(saying('x', { taskId: UNKNOWN }))),
      'stream to unknown': await refusal(() => client.sendMessageStream(saying('x', { taskId: UNKNOWN }))),
      'cancel ended': await refusal(() => client.cancelTask(task(ended.id, { metadata: undefined }))),
      'subscribe ended': await refusal(() => client.resubscribeTask(task(ended.id))),
      'send to ended': await refusal(() => client.sendMessage(saying('x', { taskId: ended.id }))),
      'negative history': await refusal(() => client.getTask(task(ended.id, { historyLength: -1 }))),
    };
  },

  async promised() {
    const client = await factory().createFromUrl(url, `/agents/club${card}`);
    const skills = (await client.getAgentCard()).skills.map((skill) => skill.id);
    const empty = await factory().createFromUrl(url, `/agents/quiet${card}`);
    return { skills, without: (await empty.getAgentCard()).skills.map((skill) => skill.id) };
  },

  async extended() {
    const client = await factory().createFromUrl(url, `/agents/strict${card}`);
    const [required, known] = ['required/v1', 'known/v2'].map((name) => `https://example.com/extensions/${name}`);
    const without = await refusal(() => client.sendMessage(saying('x')));
    const serviceParameters = ServiceParameters.create(withA2AExtensions([required, known]));
    const made = await client.sendMessage(saying('x'), { serviceParameters });
    return { without, state: Task.toJSON(made).status.state };
  },

  async listed() {
    const client = await connect();
    const contextId = randomUUID();
    const made = [];
    for (let number = 0; number < 5; number += 1) {
      made.push((await client.sendMessage(saying({ chunks: 1 }, { contextId }))).id);
    }
    const asked = { tenant: '', contextId, status: TaskState.TASK_STATE_UNSPECIFIED, pageSize: 2, pageToken: '' };
    const pages = [];
    do {
      const page = await client.listTasks({ ...asked, includeArtifacts: pages.length === 0 });
      pages.push({
        ids: page.tasks.map((listed) => listed.id),
        artifacts: page.tasks.map((listed) => listed.artifacts.length),
        totalSize: page.totalSize,
        pageSize: page.pageSize,
      });
      asked.pageToken = page.nextPageToken;
    } while (asked.pageToken && pages.length < 10);
    const { tasks: none } = await client.listTasks({ ...asked, status: TaskState.TASK_STATE_FAILED });
    return { made, pages, none: none.length };
  },

  async pushed() {
    const received = [];
    let told;
    const terminal = new Promise((resolve) => (told = resolve));
    const receiver = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk) => (body += chunk));
      request.on('end', () => {
        response.writeHead(200).end();
        const update = JSON.parse(body);
        received.push({ headers: request.headers, update });
        if (update.statusUpdate?.status?.state === 'TASK_STATE_COMPLETED') told();
      });
    });
    await new Promise((listening) => receiver.listen(0, '127.0.0.1', listening));
    try {
      const client = await connect();
      const asking = await client.sendMessage(saying({ chunks: 2, inputAt: 1 }));
      const config = {
        tenant: '',
        id: 'mine',
        taskId: asking.id,
        url: `http://127.0.0.1:${receiver.address().port}/hook`,
        token: 'a-token',
        authentication: { scheme: 'Bearer', credentials: 'a-credential' },
      };
      const created = await client.createTaskPushNotificationConfig(config);
      const got = await client.getTaskPushNotificationConfig({ tenant: '', taskId: asking.id, id: 'mine' });
      const listing = { tenant: '', taskId: asking.id, pageSize: 10, pageToken: '' };
      const { configs } = await client.listTaskPushNotificationConfig(listing);
      await client.sendMessage(saying('yes', { taskId: asking.id }));
      await terminal;
      for (let time = 0; time < 2; time += 1) {
        await client.deleteTaskPushNotificationConfig({ tenant: '', taskId: asking.id, id: 'mine' });
      }
      const left = (await client.listTaskPushNotificationConfig(listing)).configs.length;
      return { created: created.id, got: got.url, listed: configs.map((one) => one.id), received, left, config };
    } finally {
      receiver.close();
    }
  },
};

const document = {};
for (const name of chosen) {
  try {
    document[name] = await scenarios[name]();
  } catch (error) {
    document[name] = { failed: `${error.stack ?? error}` };
  }
}
process.stdout.write(JSON.stringify(document));
process.exit(0);

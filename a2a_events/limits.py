"""Every limit of the library, with its unit in the name and its reason beside it.

What an operator may want to change is also a setting (``a2a_events.settings``); these are the defaults and the walls.
"""

from __future__ import annotations

from typing import Final

# --- the log ---------------------------------------------------------------------------------------------------------
RECORD_BYTES: Final = 768 * 1024
"""Largest payload inside a record. nats-server refuses 1 MiB of headers and payload together, and *closes* the
connection of a client that tries; a quarter is left for headers and for the base64 of a leader read."""
CONTENT_BYTES: Final = 16 * 1024 * 1024
"""Largest payload of one record, a setting too: over ``RECORD_BYTES`` it is an object that the record refers to. A
message costs a gateway and a worker several times its size in memory while they work on it."""
CONTENT_CHUNK_BYTES: Final = 512 * 1024
"""Bytes of an object in one message: large, because a server that syncs each write does so for each; a third below
the server's largest message, because a leader read is base64."""
CONTENT_CACHE_BYTES: Final = 64 * 1024 * 1024
"""Objects kept in a process's memory: they never change, and all streams of a task want the newest."""
CONTENT_FETCHES: Final = 8
"""Objects fetched at once: bounds what is under way, and leaves the connection to others in between."""
REMOVAL_GRACE_SECONDS: Final = 10.0
"""Between a task's tombstone and the end of its records: who began to read it before has ended, or has its snapshot
stored, which is removed with them."""
REMOVAL_BATCH_TASKS: Final = 2000
"""Tasks removed together, after one grace time for all: some megabytes in memory, and what was full has room again
before all is buried."""
SWEEP_SECONDS: Final = 3600.0
"""Age at which an object that no record refers to is taken for left over; no writer tries that long."""
ENDING_BYTES: Final = 16 * 1024
"""Kept free of the largest report of an agent: what ends a turn rides in the same record."""
TASK_BYTES: Final = 128 * 1024 * 1024
"""Largest task, all its events together; a setting too. Eight of the largest messages; more is better sent as files."""
TASK_EVENTS: Final = 500_000
"""Most events of one task; a setting too. A fold takes a microsecond or two for each."""
ARTIFACT_BYTES: Final = CONTENT_BYTES
"""Largest artifact, however many chunks it came in; a setting too. A client reads it in one piece."""
ARTIFACTS: Final = 5000
"""Most artifacts of one task: each is named in its snapshot, which is one message."""
PENDING_MESSAGES: Final = 100
"""Messages of one task that no agent has read yet; over it a further one is refused. Each is kept in the head."""
UNREAD_BYTES: Final = 8 * 1024
"""Ids of unread messages that an ending names; the rest is counted."""
RECORD_EVENTS: Final = 256
"""Most events in one record: bounds what one group commit makes a reader decode at once."""
HEADER_BYTES: Final = 8 * 1024
"""Kept for headers below the server's largest message."""
SUBJECT_BYTES: Final = 512
"""Longest subject. Over 4 KB the server closes the connection of the client that sent it."""
READ_BATCH_RECORDS: Final = 512
"""Records asked for in one batched read; the next batch is asked for when these have arrived."""
LEADER_RECORDS: Final = 64
"""Records read one by one from the leader when no replica gave any, before a batch is asked for again."""
READ_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Most bytes asked for in one batched read: bounds the memory of a reader that catches up."""
READS_AT_ONCE: Final = 24
"""Batched reads that a connection has under way; more wait. Each takes a round trip and what its bytes need."""
READ_SILENCE_SECONDS: Final = 0.25
"""How long a batched read that nobody has answered counts among them: servers that hang must not hold up the others."""
READ_LEAST_BYTES: Final = 256 * 1024
"""What each of them may ask for, however many there are; the first record comes whatever its size."""
READS_BYTES: Final = 16 * 1024 * 1024
"""What they may ask for beyond that, all together, of which one gets a quarter at most. With records of the largest
size 40 MiB are under way: less than the 64 MiB for which a NATS server takes a connection for a slow consumer, and cuts
it. The rest is for what is read one by one, and for live records."""
SCAN_BATCH_RECORDS: Final = 256
"""Records asked for in one batch by a projection of the whole log; folding them must not hold up other requests."""
REQUEST_TIMEOUT_SECONDS: Final = 5.0
"""How long the broker may take to answer one request."""
APPEND_PATIENCE_SECONDS: Final = 15.0
"""How long an append is tried before it is reported: a killed leader stalls writes for about 5 s, a paused one 8 s."""
MIRROR_PATIENCE_SECONDS: Final = 5.0
"""How long who has just written in another region waits until the mirror here shows it: it is behind by one way of the
link, and by more only while it catches up."""
MIRROR_LOOK_SECONDS: Final = (0.001, 0.1)
"""How soon the mirror is looked at then, and at most how much later again."""
REGION_LOOK_SECONDS: Final = 1.0
"""How often a gateway compares its mirrors with the logs they follow; staleness is known so exactly."""
REGION_SILENT_SECONDS: Final = 3.0
"""Silence of another region after which nothing is sent there before it has answered: a dead link swallows requests."""
REGION_RETRY_SECONDS: Final = 5
"""Retry-After of what cannot be written because the task's region cannot be reached."""
LOG_PAUSE_SECONDS: Final = 0.5
"""Between two questions to a log that cannot answer yet."""
START_PATIENCE_SECONDS: Final = 30.0
"""How long a service that starts waits for the log: who comes first is left to chance, and elections take seconds."""
UNREADY_AFTER_SECONDS: Final = 5.0
"""How long a check of readiness fails before the process says that it is unready: a reconnect is faster than this."""
LEADER_SEEN_SECONDS: Final = 10.0
"""How long no leader of the log need have answered before that is a failed check; elections take up to 5 s."""
HEALTH_SECONDS: Final = 3.0
"""How often a process asks NATS and a leader for a sign of life."""
LOOP_DEAD_SECONDS: Final = 10.0
"""How long an event loop need not have turned before its process is to be started anew."""
START_DEAD_SECONDS: Final = 300.0
"""The same while a process starts: a worker imports its agents, and a replaced one gets no startup probe."""
REPLACEMENT_SECONDS: Final = 15.0
"""How much later than its own watchdog a worker's ``/livez`` says that it is blocked: it replaces itself, which keeps
its pod."""
CLIENT_DEAD_SECONDS: Final = 60.0
"""How long a NATS client that was closed for good may take to be made anew: the same for its process."""
TRACE_SECONDS: Final = 900.0
"""How old a message may be for its turn to be part of its trace; a later one begins its own, which is linked."""
ACCOUNT_CONNECTIONS: Final = 500
"""Connections to NATS of one tenant's account, at once: some hundreds of services, of one or two connections each."""

# --- writers ---------------------------------------------------------------------------------------------------------
WRITER_QUEUED_EVENTS: Final = 1024
"""Events a turn may have said and not yet stored; the next report waits. Bounds a worker's memory."""
WRITER_QUEUED_BYTES: Final = 4 * 1024 * 1024
"""The same in bytes."""
WRITER_EAGER_BYTES: Final = 32 * 1024
"""Bytes that are sent although the agent has not paused: what a reader sees first should not wait for the last."""
LINGER_SECONDS: Final = 0.025
"""Longest wait of an artifact chunk for company. 5 ms chunks cost 15.5 ms CPU a task without, 7.0 ms with it."""
DECIDE_ATTEMPTS: Final = 32
"""How often a gateway decides again after a conflict before it says that the task is too busy."""

# --- readers ---------------------------------------------------------------------------------------------------------
TAIL_BUFFER_BYTES: Final = 1024 * 1024
"""What one stream may have waiting before it falls back to reading the log at its own pace."""
TAIL_BUFFER_RECORDS: Final = 512
"""The same in records."""
VERIFY_AFTER_SECONDS: Final = (0.05, 0.2, 1.0)
"""When a new tail asks the leader what it may have missed: interest takes a moment to spread through a cluster."""
KEEP_ALIVE_SECONDS: Final = 15.0
"""Silence after which a stream sends a comment, and after which its tail is verified again. Proxies cut at 60 s."""
SILENCE_SECONDS: Final = 5.0
"""Silence after which a tail is verified the first time since its last record: a live copy that was lost while routes
between servers broke may have been the task's end, and nothing else would tell."""
WRITE_BYTES: Final = 256 * 1024
"""Bytes of an answer given to a socket at once: one large artifact must not keep the others waiting."""
ANSWER_SECONDS: Final = 30.0
"""What a client gets to read an answer that is no stream, and a second more for each ``ANSWER_BYTES_PER_SECOND``: it is
held whole until then. Over it the connection is cut."""
ANSWER_BYTES_PER_SECOND: Final = 128 * 1024
"""1 Mbit/s, over which whoever asks for megabytes is."""
STREAM_STALL_SECONDS: Final = 120.0
"""How long a reader may leave its socket full before the stream is cut; it can resume from its cursor."""
STREAMS_PER_GATEWAY: Final = 10_000
"""Open streams of one gateway; over it 503 with Retry-After. About 20 KB each."""

DRAIN_SPREAD_SECONDS: Final = 5.0
"""Over which a gateway that stops ends its streams: thousands that come back at once are a burden to the others."""
COME_BACK_MILLISECONDS: Final = (1000, 5000)
"""Shortest and longest wait that such a stream asks its client for; the client may know better."""

# --- requests --------------------------------------------------------------------------------------------------------
REQUEST_BYTES: Final = 20 * 1024 * 1024
"""Largest request body, counted as it arrives; a setting too. Admits a message of ``CONTENT_BYTES`` and its frame."""
REQUESTS_BYTES: Final = 128 * 1024 * 1024
"""Request bodies that a gateway holds at once; over it 503 with Retry-After. Each costs about five times its size."""
REQUESTS_SHARE: Final = 0.25
"""What of that one tenant, or one address where nobody says who they are, may take; over it 429."""
URL_BYTES: Final = 8 * 1024
"""Longest URL of a request, as common servers have it; a setting too. Over it 414."""
REQUEST_HEADER_BYTES: Final = 16 * 1024
"""All headers of a request together: a token of 8 KB and as much again; a setting too. Over it 431."""
REQUEST_HEADER_FIELDS: Final = 100
"""How many there may be; a setting too. Browsers send 20, proxies add 10."""
REQUEST_HEADER_SECONDS: Final = 10.0
"""From the first byte of a request to the end of its headers; a setting too. They are one packet or two."""
REQUEST_BODY_SECONDS: Final = 30.0
"""From there to the end of its body, and a second more for each so many bytes that have come; a setting too."""
REQUEST_BODY_BYTES_PER_SECOND: Final = 128 * 1024
"""A body that comes faster is not late, however large: any line that is of use has 1 Mbit/s."""
IDLE_CONNECTION_SECONDS: Final = 75.0
"""How long a connection may be open without a request; a setting too. Proxies (nginx, ALB) keep theirs for 60 s: one
that we closed first would race their next request, and clients would see 502."""
JSON_CONTAINERS: Final = 250_000
"""Most arrays and objects in a request body: 20 MB of ``[],`` would be 400 MB of lists."""
JSON_NAMES: Final = 10_000
"""Most members of one object in a request body; a setting too. What has more is a table and better an array."""
JSON_MEMBERS: Final = 250_000
"""Most members of all objects together, as many as containers: they take a fifth of a second."""
JSON_DEPTH: Final = 32
"""Deepest nesting of a request body. Readers of protobuf stop at 100 nested messages, and a level of JSON is up to
three of them: a data part of 33 levels could not be read back by its sender over gRPC, nor one of 47 over JSON."""
IDENTIFIER_CHARACTERS: Final = 512
"""Longest id that a client may choose (messageId, contextId, tenant)."""
IDEMPOTENCY_KEY_CHARACTERS: Final = 255
"""Longest idempotency key: a key is compared, never shown, and any UUID or hash is far below."""
YOUNG_KEYS: Final = 128
"""Idempotency keys of further messages that a task remembers, the newest; about 70 bytes each in the head. A retry
comes within seconds or minutes: it is late when so many other messages with keys have come to the same task since."""
MESSAGE_PARTS: Final = 1000
"""Most parts in one message."""

# --- callers ---------------------------------------------------------------------------------------------------------
FILE_FRESH_SECONDS: Final = 2.0
"""How often files with API keys and revocations are looked at: what is withdrawn there ends so soon."""
KEY_FILE_LOCK_SECONDS: Final = 10.0
"""What a command that changes such a file waits for another that does: each takes milliseconds."""
TOKEN_CHARACTERS: Final = 8 * 1024
"""Longest bearer token: what servers commonly take as one header."""
ADDRESS_CHARACTERS: Final = 64
"""Longest address that is taken from a header; an IPv6 one with a zone is below."""
JWKS_BYTES: Final = 256 * 1024
"""Largest set of an issuer's keys; usual are 2 to 10 KB."""
JWKS_KEYS: Final = 64
"""Keys of it that are looked at."""
JWKS_FRESH_SECONDS: Final = 300.0
"""Age at which an issuer's keys are asked for again, beside: a key that it withdraws counts no longer than this."""
JWKS_FLOOR_SECONDS: Final = 30.0
"""Shortest pause between two questions to an issuer that has answered before, whatever key ids tokens name."""
JWKS_RETRY_SECONDS: Final = 5
"""The same for one that never has; and Retry-After meanwhile."""
JWKS_STALE_SECONDS: Final = 24 * 3600.0
"""Age up to which keys are trusted of an issuer that does not answer."""
JWKS_TIMEOUT_SECONDS: Final = 10.0
"""What one question may take."""
CARD_DEPTH: Final = 64
"""Deepest nesting of a card that is signed or checked, the parameters of its extensions included; readers of protobuf
stop at 100."""
CARD_SIGNATURES: Final = 16
"""Most signatures of a card that is checked: four keys in two canonical forms are eight."""
SIGNED_CARDS: Final = 2048
"""Signed cards that a gateway keeps, some KB each: one for each agent at each of its places, and for each tenant that
has an extended one."""
AUDIT_SEEN_SECONDS: Final = 60.0
"""How long who looks at the same thing again is not named again."""
AUDIT_LOOKS: Final = 4096
"""Looks that are remembered for that."""
AUDIT_DENIALS_PER_SECOND: Final = 50
"""Lines about refusals for one reason that the audit log takes in a second; what is over is counted, in the next."""

# --- how much one caller may use --------------------------------------------------------------------------------------
TENANT_REQUESTS_PER_SECOND: Final = 200.0
"""Requests of one tenant in a second, at all gateways; a setting too. A third of what one core of a gateway serves: one
tenant that asks as fast as it can leaves most of it to the others."""
TENANT_BURST: Final = 400
"""Requests of one tenant at once after a pause; a setting too. A client that opens a page of tasks asks for 100."""
ADDRESS_REQUESTS_PER_SECOND: Final = 500.0
"""The same of one address, whoever asks; a setting too. Many people may be behind one address, and a proxy that nobody
has listed as trusted is one address: more than twice a tenant's, so that the tenant's is met first."""
ADDRESS_BURST: Final = 1000
"""The same for an address."""
REQUEST_WEIGHT_BYTES: Final = 64 * 1024
"""Of a request body, that count as one request more: large ones take as much of a gateway as many small ones."""
REQUEST_WEIGHT_MARKS: Final = 1000
"""Colons and opening brackets of a body in JSON, that count as one request more: they take about a millisecond."""
FAILED_CREDENTIAL_REQUESTS: Final = 10
"""For how many requests that an address may send it may bring one credential that is not accepted: 50 a second, so that
who guesses costs few signatures to verify."""
CREDENTIALS_REMEMBERED: Final = 50_000
"""Credentials that were accepted lately, about 130 bytes each: who guesses from the same address keeps them not out."""
STREAMS_PER_TENANT: Final = 1000
"""Open streams of one tenant at all gateways; a setting too. A tenth of what one gateway holds."""
STREAMS_PER_ADDRESS: Final = 1000
"""The same of one address; a setting too."""
STREAMS_RETRY_SECONDS: Final = 5
"""Retry-After of a stream too many: who is to end one needs a moment, and who is to leave has one every few seconds."""
STREAM_SECONDS: Final = 3600.0
"""Longest time that a stream is open, a setting too; it resumes from its cursor. So streams spread again over gateways
that have come back or were added, and one that its reader has forgotten does not stay for ever."""
STREAM_SECONDS_SPREAD: Final = 0.1
"""By what share of that, at most, a stream ends sooner, by chance: streams that were opened together must not come back
together."""
REFUSAL_PAUSE_SECONDS: Final = 0.5
"""How long a refusal for requests that come too soon is held back on average: who asks again at once does so twice a
second on each connection. Always shorter than the least Retry-After, so nobody who minds that one loses time."""
REFUSALS_HELD: Final = 512
"""Refusals that a gateway holds back at once; any more are given at once. About 20 KB each, and what has come meanwhile
of a body that is not read: 64 KB and more."""
USAGE_SECONDS: Final = 0.5
"""How often gateways tell each other what callers use: in so long a tenant may use its rate once more at each other
gateway, which is charged afterwards."""
USAGE_ENTRIES: Final = 1000
"""Tenants and addresses in one announcement; about 36 bytes each."""
USAGE_BYTES: Final = 256 * 1024
"""Largest announcement that is read: what ``USAGE_ENTRIES`` make with the longest keys, three times."""
GATEWAY_SILENT_SECONDS: Final = 2.0
"""Silence of a gateway, three announcements lost, after which its streams are nobody's: their clients go elsewhere."""
STREAMS_HEARD_SECONDS: Final = 15.0
"""How long what a gateway has said of a caller's streams counts; it says it again every third of this."""
GATEWAYS_HEARD: Final = 256
"""Other gateways that are listened to."""
CALLERS_REMEMBERED: Final = 50_000
"""Tenants, and addresses, whose requests are counted, about 270 bytes each; over it those that were silent for longest
are forgotten. A flood from more addresses than this is met by no count of addresses."""
DEBT_SECONDS: Final = 30.0
"""Longest time for which what a caller used elsewhere keeps it out: enough for what sixty gateways grant within one
``USAGE_SECONDS``, and the most that a wrong announcement costs."""

# --- logs ------------------------------------------------------------------------------------------------------------
LOG_FIELD_CHARACTERS: Final = 1024
"""Longest value in a line of a log; what agents and libraries say in theirs has no other bound."""
LOG_TRACEBACK_CHARACTERS: Final = 8 * 1024
"""Longest traceback; of a longer one its middle is left out."""
LOG_FIELDS: Final = 32
"""Most members of a line, ours among them."""
SERVER_LINES_PER_SECOND: Final = 10
"""Warnings and errors of the HTTP server in a second; what is over is counted, in the next line. Anybody can cause them
with a few bytes, and no line says more than the first."""
LOG_LINE_CHARACTERS: Final = 64 * 1024
"""What follows for a line, escapes included: nothing cuts it there, and tests hold lines to it."""

# --- lists -----------------------------------------------------------------------------------------------------------
PAGE_TASKS: Final = 50
"""Tasks on a page where the client does not say (specification 3.1.4)."""
PAGE_BYTES: Final = 8 * 1024 * 1024
"""What the tasks of a page hold together, after which the next page begins; one task in any case."""
PAGE_TASKS_AT_ONCE: Final = 8
"""Tasks of a page that are read from the log at the same time: what is read and does not fit is read again."""
PAGE_TOKEN_SECONDS: Final = 3600
"""How long a page token is good for: so long the index keeps the order of tasks that have moved since."""
INDEX_PATIENCE_SECONDS: Final = 10.0
"""How long ListTasks waits for an index that is being built before it answers 503."""
INDEX_RETRY_SECONDS: Final = 5
"""Retry-After of that answer."""
INDEX_WARM_SECONDS: Final = 600.0
"""How long an index that nobody asks keeps up with the log; reading every record is not free."""
INDEX_KEEP_UP_SECONDS: Final = 1.0
"""How often it does."""
INDEX_STATUS_BYTES: Final = 8 * 1024
"""Largest status kept in the index; a larger one is read from the log when it is shown."""

# --- answers ---------------------------------------------------------------------------------------------------------
HISTORY_MESSAGES: Final = 1000
"""Most messages of history in an answer, the newest; a setting too. Clients ask for fewer with historyLength."""
HISTORY_BYTES: Final = 4 * 1024 * 1024
"""The same in bytes; a setting too. Of a long talk the end is shown, in milliseconds."""

# --- gRPC ------------------------------------------------------------------------------------------------------------
CALLS_PER_GATEWAY: Final = 2 * STREAMS_PER_GATEWAY
"""gRPC calls under way at once: a stream that was cut stays one until its client reads that it was."""
PUBLIC_CALLS: Final = 100
"""Of these, calls open at once that need no credential (watched health, reflection): load balancers and people."""
IDLE_CHANNEL_SECONDS: Final = 300.0
"""How long a connection may be open without a call; a channel of gRPC connects again by itself when it is used."""
CLIENT_PING_SECONDS: Final = 5.0
"""Shortest pause between two pings of a client; grpcio's default of 5 minutes cuts clients that keep quiet streams."""
TRANSLATED_BYTES: Final = 256 * 1024
"""Larger messages are read and translated in a thread: protobuf takes a second for 2 MB of numbers, and others
are waiting."""
STATUS_MESSAGE_BYTES: Final = 600
"""Longest error message; it is sent twice, once percent-encoded, and clients refuse more than 8 KiB of metadata."""
STATUS_BYTES: Final = 2600
"""Largest google.rpc.Status, for the same reason; details that do not fit are left out."""

# --- push notifications ----------------------------------------------------------------------------------------------
WEBHOOKS: Final = 10
"""Push notification configs of one task, a setting too. Each is kept in the head, and is a request for every update."""
WEBHOOK_URL_CHARACTERS: Final = 2048
"""Longest URL of a webhook: what proxies and servers commonly take."""
WEBHOOK_SECRET_CHARACTERS: Final = 4096
"""Longest token, and longest credentials, of a webhook: they become headers, which servers cut at 8 KB together."""
WEBHOOK_TIMEOUT_SECONDS: Final = 15.0
"""What one attempt may take, from the name's resolution to the status line (specification 4.3.3: 10 to 30 s)."""
WEBHOOK_ATTEMPTS: Final = 12
"""Attempts for one update before its webhook is given up: with the pauses below 10 to 19 minutes."""
WEBHOOK_PAUSE_SECONDS: Final = 1.0
"""Pause after the first failed attempt; each further one is twice as long."""
WEBHOOK_LONGEST_PAUSE_SECONDS: Final = 300.0
WEBHOOK_CONNECTIONS: Final = 512
"""Open connections of one notifier; half of a common limit of file descriptors."""
WEBHOOK_CONNECTIONS_PER_ORIGIN: Final = 32
"""Of those, to one scheme, host and port: a host that hangs must leave connections to the others."""
NOTIFIED_TASKS: Final = 10_000
"""Tasks that one notifier delivers for at once, those that wait for a next attempt included: bounds its memory."""
NOTIFIER_LINGER_SECONDS: Final = 2.0
"""Silence of a task after which its notifier lets go of it: taking it up again costs five round trips."""

# --- workers ---------------------------------------------------------------------------------------------------------
TURNS_PER_WORKER: Final = 1000
"""Turns one worker process runs at once; agents mostly wait for models."""
WAITING_DELIVERIES: Final = 10_000
"""Deliveries that a busy worker takes beyond its turns, to see whose is next; about 3 KB each."""
WAITING_BYTES: Final = 64 * 1024 * 1024
"""What they hold together; a message may be 16 MB."""
QUEUE_LIMIT: Final = 50_000
"""Messages of one agent that are queued or running, over which a gateway refuses new tasks; a setting too. As many as
one shard's consumer may have under way (``MAX_ACK_PENDING``): so what workers have let go never blocks the rest."""
QUEUE_FRESH_SECONDS: Final = 1.0
"""How old a reading of the queue's depth may be; what this gateway has admitted since is added to it."""
QUEUE_RETRY_SECONDS: Final = 5
"""Retry-After of a refusal for a full queue."""
ACK_WAIT_SECONDS: Final = 30.0
"""Silence after which the broker offers a turn to another worker."""
IN_PROGRESS_SECONDS: Final = ACK_WAIT_SECONDS / 3
"""How often a worker says that a turn lives: two signs may be lost."""
TURN_ATTEMPTS: Final = 3
"""Attempts at one turn before it ends FAILED, under the crash policies that try again."""
RETRY_PAUSE_SECONDS: Final = 1.0
"""Pause before an agent that raised runs again; each further one is twice as long."""
RETRY_LONGEST_PAUSE_SECONDS: Final = 60.0
OTHER_VERSION_DELIVERIES: Final = 10
"""How often a turn that this version of its agent cannot resume is left to workers of its own version: five minutes at
the usual ack wait, the length of a roll-out."""
STEPS: Final = 1000
"""Durable steps and timers of one turn. Each is kept in the head while the turn is unfinished."""
STEP_NAME_CHARACTERS: Final = 128
"""Longest name of one."""
SUSPEND_SECONDS: Final = 10.0
"""A durable timer that is due sooner is waited for in the process: to suspend a turn costs three records."""
HANDOVER_SECONDS: Final = 1.0
"""What turns get to end by themselves when a worker is asked to stop, before it hands them over."""
CANCEL_GRACE_SECONDS: Final = 10.0
"""What a canceled agent gets to stop by itself."""
BLOCKED_LOOP_WARNING_SECONDS: Final = 2.0
"""When a worker's log names the code that blocks its event loop: every turn of the worker stands still meanwhile."""
LEFT_BEHIND_SECONDS: Final = 2.0
"""What coroutines and threads that nobody waits for any more get to end with their process."""
CANCEL_WAIT_SECONDS: Final = 5.0
"""How long CancelTask waits for the terminal state before it answers with the task as it is."""
AWAITED_BYTES: Final = 64 * 1024
"""Of a task that a SendMessage waits for, held in memory; a larger one is read from the log when it is answered. So a
client that waits costs as much as a stream, whatever it has sent."""
LONG_POLL_SECONDS: Final = 30.0
"""How long GetTask waits for a generation that has not come yet (A2A 1.1); proxies cut at 60 s."""
DRAIN_SECONDS: Final = 20.0
"""What turns get to end when a worker is asked to stop."""
TURN_DEADLINE_SECONDS: Final = 3600.0
"""Longest turn."""
IDLE_DEADLINE_SECONDS: Final = 600.0
"""Longest time in which an agent may say nothing."""
INPUT_DEADLINE_SECONDS: Final = 7 * 24 * 3600.0
"""Longest wait for a client's input."""
SILENCE_ACK_WAITS: Final = 4
"""Ack waits of silence after which the sweeper asks after a task, unless it is set: the broker has delivered again by
then, thrice. A turn that says nothing costs two records in this time."""
AGENT_HEARTBEAT_SECONDS: Final = 10.0
"""How often a worker renews its entry in the agent registry; three missed and the entry is gone."""

# --- dead letters ----------------------------------------------------------------------------------------------------
DEAD_LETTER_SECONDS: Final = 90 * 24 * 3600.0
"""Age at which a dead letter goes: nobody replays last quarter's task, and its timeline stays."""
UNREADABLE_DELIVERIES: Final = 5
"""Deliveries of a record that cannot be read before there is a letter for it: two minutes at the usual ack wait, in
which a process that can read it may come."""

# --- drawings and reports --------------------------------------------------------------------------------------------
DRAWN_ROWS: Final = 120
"""Rows of a diagram or a report, from both ends: diagrams of over 50,000 characters are not drawn where issues are, an
issue holds 65,536, and nobody reads more."""
DRAWN_CHARACTERS: Final = 160
"""Of what a row says in a diagram or a report, as it is written there: hostile text is mostly character references."""
REPORTED_CHARACTERS: Final = 4000
"""Of what an agent says in its last status, in a report."""

# --- snapshots -------------------------------------------------------------------------------------------------------
SNAPSHOT_EVENTS: Final = 500
"""Events after which whoever has just folded writes a snapshot."""
SNAPSHOT_FROM_EVENTS: Final = 128
"""A task that ended with fewer events, close together, is read from the log as fast as from a snapshot."""
SNAPSHOT_FROM_SPAN: Final = 2048
"""Positions between a task's first and last record up to which that holds: a filtered read costs 0.1 µs a position."""
SEGMENT_CACHE_BYTES: Final = 64 * 1024 * 1024
"""Segments kept in a process's memory: they never change, and a large task is mostly segments."""
SEGMENT_BYTES: Final = 256 * 1024
"""Size at which the growing end of an artifact or of the history is sealed into a segment of its own."""
SEGMENT_LARGEST_BYTES: Final = 512 * 1024
"""Largest segment, because a message holds no more; what is longer goes on in the next one. Whoever seals must cut in
the same places: to change this is to raise ``snapshot.FORMAT``."""
SEGMENT_LEAST_BYTES: Final = 16 * 1024
"""Size at which ends are sealed when ``HEAD_ENDS_BYTES`` of them would stand in one head."""
HEAD_ENDS_BYTES: Final = 512 * 1024
"""Growing ends that a head holds together; a head is one message."""
SNAPSHOT_BYTES: Final = CONTENT_BYTES
"""Content that a worker holds of a task before it writes a snapshot, which keeps it out of memory."""

REHEARSAL_SECONDS: Final = 60.0
"""Real time that one run of an agent against a record may take: it waits for nothing, so it works or hangs."""

REHEARSALS: Final = 16
"""Places at which it is tried, for one message or cancel, whether the agent heard of it there: counted back from where
its report changed, and few agents say more than this before they do."""

# --- a2a-sdk servers -------------------------------------------------------------------------------------------------
CLUSTER_TASKS: Final = 1000
"""Tasks that a server of a2a-sdk keeps in memory as it last read them: any other is read from its first record on."""

# --- looking at timelines --------------------------------------------------------------------------------------------
CHECKPOINT_EVENTS: Final = 500
"""Events between two folds that are kept of a timeline that somebody scrubs through: the rest is folded in 10 ms."""
TIMELINES_BYTES: Final = 256 * 1024 * 1024
"""Timelines that are kept for whoever looks at them, together, and the largest one that is shown at all."""
TIMELINE_EVENT_BYTES: Final = 1024
"""What an event that is kept for that costs beside its content."""
TIMELINE_VIEWS: Final = 4
"""Filtered lists of one timeline that are kept, so that a reader who pages through one does not filter anew."""
TIMELINE_ROWS: Final = 1000
"""Most rows in one answer."""

"""Subjects, streams, headers and error codes: every string that the server and this software must agree on.

::

    <namespace>.log.<log>.<shard>.<agent>.<tenant>.<task>.<in|out>     the log, one stream a shard
    <namespace>.log-<epoch>.<log>.…  (the same)                        where a log is written that was taken over
    <namespace>.live.<log>.<shard>.<agent>.<tenant>.<task>.<in|out>    its stored records, republished on core NATS
    <namespace>.live-<here>.<log>.…  (the same)                        the same from its mirror, in the region of <here>
    <namespace>.snap.<log>.<shard>.<agent>.<tenant>.<task>.<head|key>  snapshots
    <namespace>.push.<log>.<shard>.<agent>.<tenant>.<task>.state       how far webhooks were notified
    <namespace>.push.<log>.key                                         what their secrets are sealed with
    <namespace>.push.<log>.progress.<work>                             how far a work on the whole log has come
    <namespace>.push.<log>.context.<agent>.<tenant>.<context>          where what is remembered of a context stands
    <namespace>.timer.<log>.<set|due>.<shard>.<agent>.<tenant>.<task>  wake-ups
    <namespace>.dead.<log>.<shard>.<agent>.<tenant>.<task>             dead letters
    <namespace>.notes.<log>.<agent>.<tenant>.<context>.<name>          what agents keep for a context
    <namespace>.registry.<log>.<agent>.<card|alive.instance>           the agent registry
    <namespace>.usage.<log>                                            what gateways tell each other of callers
    $O.<NAMESPACE>_CONTENT_<log>.<C|M>.<object>                        payloads that no record holds (``object_store``)
    _INBOX.<NAMESPACE>_<role>.<random>.…                               answers to who signs in as a role

Every subject names its log, and each log is written in one JetStream domain: two domains whose streams take the same
subject would both store a message, and its writer would hear of one (ADR 0025). A mirror of another domain's log
republishes below ``live-<own log>`` instead of ``live``: interest crosses leaf nodes, and both would come.

No token is a client's string: task ids are ours, tenants are hashed, agents and instances are checked names.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from a2a_events.timeline.ids import ContextRef, TaskRef

RECORD: Final = "A2A-Record"
"""The packed record header (``timeline.record``)."""
TRACE: Final = "traceparent"
TRACE_STATE: Final = "tracestate"
"""With ``TRACE``, the trace context of who wrote the record, as the W3C names them."""
EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_FILTER: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
NOTE: Final = "A2A-Note"
"""Which note a message is a piece of, how many follow, and whether the note begins anew."""
SCHEDULE: Final = "Nats-Schedule"
SCHEDULE_TARGET: Final = "Nats-Schedule-Target"
TTL: Final = "Nats-TTL"

WRONG_LAST_SEQUENCE: Final = 10071
"""The expected position is not the last one: a conflict, or (R1) a repeat of one's own stored record."""
IN_FLIGHT: Final = 10164
"""Another append of the same task is being decided (R3): neither stored nor refused, try again."""
STREAM_NOT_FOUND: Final = 10059
CONSUMER_NOT_FOUND: Final = 10014
MESSAGE_NOT_FOUND: Final = 10037
STREAM_NAME_IN_USE: Final = 10058

INBOX: Final = "_INBOX"
"""Root of the subjects of answers, by NATS's convention."""
IN: Final = "in"
OUT: Final = "out"


def ingest_root(epoch: int) -> str:
    """Root of the subjects on which a log takes records in.

    Each region that takes a log over has another one, so that two regions never store the same append (ADR 0025).
    """
    return "log" if epoch <= 1 else f"log-{epoch}"


class Names(Struct, frozen=True):
    """All names of one deployment: ``namespace`` for subjects, its upper case for streams."""

    namespace: str = "a2a"

    @property
    def _streams(self) -> str:
        return self.namespace.upper().replace(".", "_")

    def inbox(self, role: str) -> str:
        """Below which those hear answers who sign in as a role, and nobody else."""
        return f"{INBOX}.{self._streams}_{role}"

    def log_stream(self, log: str, shard: int) -> str:
        """The stream of one shard."""
        return f"{self._streams}_LOG_{log}_{shard}"

    def snapshot_stream(self, log: str) -> str:
        """The stream of snapshots."""
        return f"{self._streams}_SNAP_{log}"

    def push_stream(self, log: str) -> str:
        """The stream of what notifiers remember."""
        return f"{self._streams}_PUSH_{log}"

    def timer_stream(self, log: str) -> str:
        """The stream of wake-ups."""
        return f"{self._streams}_TIMER_{log}"

    def dead_stream(self, log: str) -> str:
        """The stream of dead letters."""
        return f"{self._streams}_DEAD_{log}"

    def notes_stream(self, log: str) -> str:
        """The stream of what agents keep for contexts."""
        return f"{self._streams}_NOTES_{log}"

    def notes(self, context: ContextRef, name: str) -> str:
        """Where an agent keeps what it has noted in a context."""
        return f"{self.namespace}.notes.{context.log}.{context.agent}.{context.tenant}.{context.context}.{name}"

    def notes_of(self, log: str, tenant: str) -> str:
        """What any agent has noted in any context of a tenant."""
        return f"{self.namespace}.notes.{log}.*.{tenant}.>"

    def bucket(self, log: str) -> str:
        """The object store bucket of payloads that no record holds."""
        return f"{self._streams}_CONTENT_{log}"

    def registry_stream(self, log: str) -> str:
        """The stream of the agent registry."""
        return f"{self._streams}_REGISTRY_{log}"

    @property
    def old_registry_stream(self) -> str:
        """The stream of the registry of versions whose subjects did not name the log: ``<namespace>.agents.>``."""
        return f"{self._streams}_AGENTS"

    def card(self, log: str, agent: str) -> str:
        """Where an agent's card is, or the cards of all agents (``*``)."""
        return f"{self.namespace}.registry.{log}.{agent}.card"

    def alive(self, log: str, agent: str, instance: str) -> str:
        """Where a process says that it serves an agent; each may be ``*``."""
        return f"{self.namespace}.registry.{log}.{agent}.alive.{instance}"

    def shard(self, root: str, log: str, shard: int) -> str:
        """Everything of one shard under a root."""
        return f"{self.namespace}.{root}.{log}.{shard}.>"

    def ingest(self, log: str, shard: int, epoch: int) -> str:
        """Where a shard takes records in: what was republished or written before it was taken over, it is not."""
        return self.shard(ingest_root(epoch), log, shard)

    def task(self, root: str, task: TaskRef, last: str) -> str:
        """A subject of one task under ``log``, ``live``, ``snap`` or ``push``."""
        return f"{self.namespace}.{root}.{task.log}.{task.shard}.{task.agent}.{task.tenant}.{task.task_id}.{last}"

    def usage(self, log: str) -> str:
        """Where gateways tell each other how much callers use; on core NATS, and kept nowhere."""
        return f"{self.namespace}.usage.{log}"

    def timer(self, task: TaskRef, kind: str) -> str:
        """Where a wake-up is set, or falls due."""
        return f"{self.namespace}.timer.{task.log}.{kind}.{task.shard}.{task.agent}.{task.tenant}.{task.task_id}"

    def wakeups(self, log: str) -> str:
        """Every wake-up that is set."""
        return f"{self.namespace}.timer.{log}.set.>"

    def dead_letter(self, task: TaskRef) -> str:
        """Where the task's dead letter is."""
        return f"{self.namespace}.dead.{task.log}.{task.shard}.{task.agent}.{task.tenant}.{task.task_id}"

    def dead_letters(self, log: str, agent: str) -> str:
        """The dead letters of an agent, or of all agents."""
        return f"{self.namespace}.dead.{log}.*.{agent or '*'}.*.*"

    def sealing_key(self, log: str) -> str:
        """Where the key for secrets is kept."""
        return f"{self.namespace}.push.{log}.key"

    def progress(self, log: str, work: str) -> str:
        """Where a work on the whole log keeps how far it has come."""
        return f"{self.namespace}.push.{log}.progress.{work}"

    def context(self, context: ContextRef) -> str:
        """Where it is kept which turn of a context the next one goes on from."""
        return f"{self.namespace}.push.{context.log}.context.{context.agent}.{context.tenant}.{context.context}"

    def contexts_of(self, log: str, tenant: str) -> str:
        """The same for all agents and contexts of a tenant."""
        return f"{self.namespace}.push.{log}.context.*.{tenant}.*"

    def inbound_filter(self, log: str, shard: int, agent: str) -> str:
        """What a worker of an agent is given."""
        return f"{self.namespace}.log.{log}.{shard}.{agent}.*.*.{IN}"

    def due_filter(self, log: str, agent: str) -> str:
        """The wake-ups that a worker of an agent is given."""
        return f"{self.namespace}.timer.{log}.due.*.{agent}.*.*"

    def worker_consumer(self, agent: str) -> str:
        """The durable consumer that all workers of an agent share."""
        return f"worker-{agent}"

    @property
    def notifier_consumer(self) -> str:
        """The durable consumer that all notifiers share."""
        return "notifier"

    def live_root(self, republished: str) -> str:
        """Root of the live records of a stream, from where it says that it republishes to."""
        return republished[len(self.namespace) + 1 :].partition(".")[0] or "live"

    def task_of(self, subject: str) -> TaskRef:
        """The task whose record, snapshot or due wake-up a subject is."""
        tokens = subject[len(self.namespace) + 1 :].split(".")
        if tokens[0] == "timer":
            return TaskRef(tokens[1], int(tokens[3]), tokens[4], tokens[5], tokens[6])
        return TaskRef(tokens[1], int(tokens[2]), tokens[3], tokens[4], tokens[5])

"""The turn protocol under every interleaving that hypothesis can think of (turns 1–6).

Gateways, workers, a sweeper and a broker act on one task, each on a reading of the log of its own that may be old.
Every decision is made by ``decide``, every record packed by ``record.draft`` and stored on its condition; who is
refused reads on and decides again. Workers crash or live on as zombies, deliveries come again or are forgotten. An
auditor reads each stored record, knowing the rules and nothing of folds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from a2a_events import limits
from a2a_events.errors import A2AError, Conflict, TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError
from a2a_events.model import TERMINAL_STATES, Role, Task, TaskState, decode
from a2a_events.timeline import decide, render, snapshot
from a2a_events.timeline.decide import Answer, Claim, Delivery, LetGo, Outcome, Ownership, Settled, Terms
from a2a_events.timeline.events import (
    NOTHING,
    CancelRequested,
    Kind,
    MessageReceived,
    MessageUnread,
    Replied,
    StatusChanged,
    Submitted,
    TurnClaimed,
    TurnEnded,
    TurnNudged,
    TurnReleased,
    TurnSuspended,
)
from a2a_events.timeline.fold import Head, Phase, TaskFold, TurnState
from a2a_events.timeline.record import Entry, Record, Writer, entry
from tests.unit.client_view import ClientView
from tests.unit.timeline_builders import (
    ALICE,
    GATEWAY,
    NOW,
    TASK,
    StoredLog,
    artifact,
    kept,
    next_draft,
    received,
    said,
    status,
    submitted,
)

WORKER = Writer("worker", "worker-1")
GATEWAYS, WORKERS = 2, 3
AT_REST = {Phase.NONE, Phase.SUSPENDED, Phase.RESTING, Phase.TERMINAL}
OUTCOMES = [
    TaskState.COMPLETED,
    TaskState.COMPLETED,
    TaskState.INPUT_REQUIRED,
    TaskState.INPUT_REQUIRED,
    TaskState.AUTH_REQUIRED,
    TaskState.FAILED,
    TaskState.REJECTED,
    TaskState.CANCELED,
]
actors = st.integers(0, GATEWAYS - 1)
workers = st.integers(GATEWAYS, GATEWAYS + WORKERS - 1)
picks = st.integers(0, 99)


@dataclass
class Turn:
    """A worker's own memory of the turn it claimed."""

    actor: int
    epoch: int
    claim: str
    given: int


@dataclass
class Outstanding:
    """What the broker knows of an ``in`` record that was not acknowledged."""

    record: Record
    count: int = 0


@dataclass
class Auditor:
    """Reads stored records one by one and says which rule one of them breaks."""

    given: set[int] = field(default_factory=set)
    """Positions of the messages that some agent was really given."""
    messages: dict[int, str] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    handled: int = 0
    epoch: int = 0
    open: bool = False
    released: bool = False
    suspended: bool = False
    parked: int = 0
    lease: tuple[int, int] = (0, 0)
    attempt: int = 0
    last_of_epoch: int = 0
    canceling: bool = False
    ended: TaskState | None = None

    def read(self, record: Record, by: Delivery | None) -> None:
        """Check one stored record; ``by`` is the delivery that made a worker write it."""
        assert self.ended is None, "nothing is written after the end"
        header = record.header
        assert not header.epoch or header.epoch >= self.epoch, "nothing of an old epoch follows a newer one"
        interrupted = False
        for event in record.events():
            assert self.ended is None, "the terminal event is the last of its record"
            match event:
                case Submitted() | MessageReceived():
                    self.messages[record.position] = f"m{len(self.messages) + 1}"
                case MessageUnread():
                    self.named |= set(event.message_ids)
                case CancelRequested():
                    assert self.open, "a cancel is only asked of an owner"
                    self.canceling = True
                case TurnClaimed():
                    self._claimed(event, by)
                case TurnReleased() | TurnEnded() | TurnSuspended():
                    woken = self.suspended and isinstance(event, TurnReleased)
                    assert self.open or woken, "only an open turn is released, suspended or ended"
                    assert event.epoch == self.epoch
                    self._left(event)
                case StatusChanged() | Replied():
                    state = event.status.state if isinstance(event, StatusChanged) else TaskState.COMPLETED
                    if state in TERMINAL_STATES:
                        self._ended(state)
                    interrupted = state in {TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED}
                case _:
                    pass
        assert not (interrupted and self.open), "a turn that asked its client is over"
        if header.epoch == self.epoch:
            self.last_of_epoch = record.position

    def _claimed(self, claim: TurnClaimed, by: Delivery | None) -> None:
        assert claim.epoch == self.epoch + 1, "epochs grow by one with each claim"
        if self.open and by is None:
            assert (claim.lease, claim.delivery) == self.lease, "an owner that claims once more keeps its lease"
            assert claim.attempt in {self.attempt, self.attempt + 1}
        elif self.open:
            assert by is not None
            again = by.position == self.lease[0] and by.count > self.lease[1]
            unanswered = "n" in by.kinds and by.epoch == self.epoch and self.last_of_epoch < by.position
            assert again or unanswered, "an open turn is taken over only with evidence"
            assert claim.attempt == self.attempt + 1, "a take-over is one more attempt"
        elif self.released or self.suspended:
            assert claim.attempt == self.attempt, "a planned hand-over is no attempt"
        else:
            assert 1 == claim.attempt, "the attempts of one turn do not count against the next"
        self.epoch, self.attempt = claim.epoch, claim.attempt
        self.open, self.released, self.suspended = True, False, False
        self.lease = (claim.lease, claim.delivery)

    def _left(self, event: TurnReleased | TurnSuspended | TurnEnded) -> None:
        self.open, self.released = False, isinstance(event, TurnReleased)
        self.suspended = isinstance(event, TurnSuspended)
        if isinstance(event, TurnSuspended):
            parked = {position for position in self.messages if position <= event.given}
            assert parked <= self.given, "only messages that an agent was given need no delivery any more"
            self.parked = max(self.parked, event.given)
        if not isinstance(event, TurnEnded):
            return
        covered = {position for position in self.messages if position <= event.handled}
        assert covered <= self.given, "only messages that an agent was given are handled"
        assert event.handled >= self.handled, "what was handled stays handled"
        self.handled = event.handled

    def _ended(self, state: TaskState) -> None:
        self.ended = state
        assert not self.canceling or state is TaskState.CANCELED, "after a cancel only CANCELED may follow"
        left = {name for position, name in self.messages.items() if position > self.handled}
        if state is TaskState.COMPLETED:
            assert not left, "COMPLETED never stands over a message that no agent was given"
        ungiven = {name for position, name in self.messages.items() if position not in self.given}
        assert ungiven <= self.named, "a message that no agent was given is named when the task ends"


class TurnProtocol(RuleBasedStateMachine):
    """One task, and everybody who writes it."""

    terms = Terms(attempts=2)

    def __init__(self) -> None:
        super().__init__()
        self.log = StoredLog()
        self.heads = [Head() for _ in range(GATEWAYS + WORKERS)]
        self.turns: list[Turn] = []
        self.broker: dict[int, Outstanding] = {}
        self.forgetful = False
        self.auditor = Auditor()
        self.fold = TaskFold.empty()
        self.truth = Head()
        self.client = ClientView()
        self.messages = 0
        self.chunks = 0
        self.writes = 0
        self.patience = 0
        self.notes = 0

    @initialize(
        policy=st.sampled_from(["fail", "rerun", "resume"]),
        attempts=st.integers(1, 3),
        replies=st.sampled_from(["task", "task", "either"]),
        patience=st.sampled_from([0, 5, 10, 15]),
        beginning=st.lists(st.sampled_from("ccmmaexdsrw"), max_size=8),
    )
    def a_client_creates_a_task_of_some_agent(
        self, policy: str, attempts: int, replies: str, patience: int, beginning: list[str]
    ) -> None:
        self.terms = Terms(attempts=attempts, policy=policy, replies=replies, agent_version="1")
        self.patience = patience
        self.messages = 1
        created = self.write(0, lambda _: decide.submit(submitted("m1", replies=replies), NOW))
        assert created is not None
        for act in beginning:
            self.go_on(act)

    def go_on(self, act: str) -> None:
        """One step of an ordinary course, taken by those who know the whole log; far states are rare without."""
        for actor in range(GATEWAYS + WORKERS):
            self.read(actor)
        match act:
            case "c" if self.broker and self.truth.phase in {Phase.QUEUED, Phase.RELEASED}:
                self.the_broker_delivers_what_waits(GATEWAYS)
            case "m":
                self.a_client_sends_a_message(0, 0)
            case "x" if self.truth.phase is Phase.RUNNING:
                self.a_client_cancels(0)
            case "a" if self.turns:
                self.an_agent_says_something(0, 0)
            case "e" if self.turns:
                self.an_agent_ends_its_turn(0, TaskState.INPUT_REQUIRED, "", replies=False)
            case "d" if self.turns and self.terms.policy != decide.FAIL:
                self.a_worker_drains(0)
            case "s" if self.turns and self.terms.policy != decide.FAIL:
                self.an_agent_waits_for_a_timer(0)
            case "r" if self.turns:
                self.an_agent_raises(0)
            case "w":
                self.a_wake_up_comes(0)
            case _:
                pass

    @property
    def impatient(self) -> bool:
        """Whether clients, clocks and redeliveries may end the task by now: if they always could, few runs got far."""
        return len(self.log.records) >= self.patience

    # --- what all writers do -----------------------------------------------------------------------------------------

    def read(self, actor: int, upto: int | None = None) -> Head:
        """Fold what the log holds, to its end or to a position, into an actor's head."""
        head = self.heads[actor]
        for record in self.log.after(head.position):
            if upto is None or record.position <= upto:
                head.apply(record)
        return head

    def write(
        self,
        actor: int,
        decision: Callable[[Head], list[Entry]],
        *,
        epoch: Callable[[Head], int] = lambda _: 0,
        by: Delivery | None = None,
    ) -> Record | None:
        """Decide on what the actor has read and append; if refused read on and decide again (turns 3.2, 3.3)."""
        for _ in range(3):
            head = self.heads[actor]
            before = len(self.log.records)
            try:
                entries = decision(head)
            except A2AError:
                assert before == len(self.log.records)
                raise
            if not entries:
                return None
            self.writes += 1
            written_under = epoch(head)
            writer = WORKER if written_under else GATEWAY
            offered = next_draft(head, entries, record_id=f"r{self.writes}", writer=writer, epoch=written_under)
            try:
                record = self.log.append(offered, head.position)
            except Conflict:
                self.read(actor)
                continue
            head.apply(record)
            self.stored(record, by)
            return record
        raise AssertionError("nobody else writes between a reading of the end and its append")

    def stored(self, record: Record, by: Delivery | None) -> None:
        if record.inbound:
            self.broker[record.position] = Outstanding(record)
        assert self.truth.apply(record)
        assert self.fold.apply(record)
        self.client.receive(record)
        self.auditor.read(record, by)

    def give(self, position: int) -> None:
        """An agent is given every message up to a position."""
        self.auditor.given |= {at for at in self.auditor.messages if at <= position}

    # --- clients -----------------------------------------------------------------------------------------------------

    @rule(actor=actors, late=st.integers(0, 5))
    @precondition(lambda self: self.messages < 5)
    def a_client_sends_a_message(self, actor: int, late: int) -> None:
        event = received(f"m{self.messages + 1}")
        try:
            self.write(actor, lambda head: decide.message(head, event, "", NOW + late))
        except UnsupportedOperationError:
            assert self.truth.terminal
        except TaskNotFoundError:
            self.read(actor)
            if self.truth.exists and not self.truth.terminal:
                self.a_client_sends_a_message(actor, late)
        else:
            self.messages += 1

    @rule(actor=actors)
    @precondition(lambda self: self.impatient)
    def a_client_cancels(self, actor: int) -> None:
        try:
            self.write(actor, lambda head: decide.cancel(head, TASK, ALICE, NOTHING, NOW))
        except TaskNotCancelableError:
            assert self.truth.terminal
        except TaskNotFoundError:
            assert self.heads[actor].phase in {Phase.NONE, Phase.TERMINAL}
        else:
            self.read(actor)
            assert self.truth.cancel or self.truth.state is TaskState.CANCELED

    @rule(actor=st.integers(0, GATEWAYS + WORKERS - 1), share=st.floats(0, 1))
    def somebody_reads_a_part_of_what_is_new(self, actor: int, share: float) -> None:
        new = self.log.after(self.heads[actor].position)
        if new:
            self.read(actor, new[int(share * (len(new) - 1))].position)

    # --- deliveries --------------------------------------------------------------------------------------------------

    @rule(actor=workers)
    @precondition(lambda self: self.broker and self.truth.phase in {Phase.QUEUED, Phase.RELEASED})
    def the_broker_delivers_what_waits(self, actor: int) -> None:
        self.deliver(actor, min(self.broker, key=lambda position: self.broker[position].count), graced=False)

    @rule(actor=workers, pick=picks, graced=st.booleans())
    @precondition(lambda self: self.broker and self.impatient)
    def the_broker_delivers_again(self, actor: int, pick: int, graced: bool) -> None:
        self.deliver(actor, list(self.broker)[pick % len(self.broker)], graced=graced)

    def deliver(self, actor: int, position: int, *, graced: bool) -> None:
        outstanding = self.broker[position]
        outstanding.count += 1
        header = outstanding.record.header
        [event] = outstanding.record.events()
        epoch = event.epoch if isinstance(event, TurnNudged | TurnReleased) else 0
        delivery = Delivery(position, outstanding.count, header.kinds, epoch)
        self.read(actor, position)

        claims: list[Claim] = []
        verdicts: list[decide.Verdict] = []

        def decision(head: Head) -> list[Entry]:
            verdict = decide.on_delivery(head, delivery, self.terms, TASK, NOW)
            if isinstance(verdict, Answer) and graced:
                head = self.read(actor)
                verdict = decide.on_delivery(head, delivery, self.terms, TASK, NOW, graced=True)
            verdicts.append(verdict)
            if isinstance(verdict, Claim):
                claims.append(verdict)
                return verdict.entries
            return []

        record = self.write(actor, decision, epoch=lambda head: head.epoch + 1, by=delivery)
        match verdicts[-1]:
            case Settled():
                del self.broker[position]
            case Claim(runs=True):
                assert record is not None
                assert not self.auditor.canceling, "no agent is started for what is to be canceled"
                head = self.heads[actor]
                given = max(p.position for p in head.pending)
                self.give(given)
                self.turns.append(Turn(actor, claims[-1].epoch, record.header.record_id, given))
            case Claim() | LetGo() | Answer():
                pass

    @rule(pick=picks)
    @precondition(lambda self: self.broker and self.impatient)
    def the_broker_forgets_a_delivery(self, pick: int) -> None:
        del self.broker[list(self.broker)[pick % len(self.broker)]]
        self.forgetful = True

    @rule(actor=actors)
    @precondition(lambda self: self.truth.phase not in AT_REST and self.notes < 4)
    def the_sweeper_nudges(self, actor: int) -> None:
        def decision(head: Head) -> list[Entry]:
            return [] if head.phase in AT_REST else [entry(TurnNudged(epoch=head.epoch), max(NOW, head.time))]

        self.notes += 1
        self.write(actor, decision)

    @rule(actor=actors)
    @precondition(lambda self: self.impatient)
    def a_wake_up_comes(self, actor: int) -> None:
        revision = self.heads[actor].revision
        self.write(actor, lambda head: decide.wake(head, TASK, revision, "no input came", NOW))

    @rule(actor=actors)
    @precondition(lambda self: not self.truth.terminal and self.notes < 4)
    def a_later_version_writes_what_this_one_does_not_know(self, actor: int) -> None:
        self.notes += 1
        self.write(actor, lambda head: [] if head.terminal else [kept(Kind.DELIVERY_ATTEMPT)])

    # --- the owners of turns, dead or alive --------------------------------------------------------------------------

    def owned(self, turn: Turn, decision: Callable[[Head, Ownership], list[Entry]]) -> Record | None:
        """Append for a turn as long as it is owned; a fenced one drops everything and is gone."""

        def unless_fenced(head: Head) -> list[Entry]:
            owner = decide.ownership(head, turn.epoch, turn.claim)
            return [] if owner is Ownership.FENCED else decision(head, owner)

        record = self.write(turn.actor, unless_fenced, epoch=lambda _: turn.epoch)
        if record is None:
            self.turns.remove(turn)
        return record

    @rule(pick=picks, kind=st.integers(0, 3))
    @precondition(lambda self: self.turns)
    def an_agent_says_something(self, pick: int, kind: int) -> None:
        self.chunks += 1
        text = str(self.chunks)
        output = [
            [artifact("a", text, append=self.chunks > 1)],
            [artifact("b", text, metadata={"n": self.chunks})],
            [status(TaskState.WORKING, text)],
            [artifact("a", text, append=True), artifact("a", append=True, last=True), status(TaskState.WORKING)],
        ][kind]
        self.owned(self.turns[pick % len(self.turns)], lambda *_: output)

    @rule(pick=picks)
    @precondition(lambda self: self.turns)
    def an_agent_takes_the_messages_that_came(self, pick: int) -> None:
        turn = self.turns[pick % len(self.turns)]
        head = self.heads[turn.actor]
        if decide.ownership(head, turn.epoch, turn.claim) is Ownership.OWNER:
            turn.given = max([turn.given, *(p.position for p in head.pending)])
            self.give(turn.given)

    @rule(pick=picks, state=st.sampled_from(OUTCOMES), text=st.sampled_from(["", "bye"]), replies=st.booleans())
    @precondition(lambda self: self.turns)
    def an_agent_ends_its_turn(self, pick: int, state: TaskState, text: str, replies: bool) -> None:
        turn = self.turns[pick % len(self.turns)]
        message = said("end", text, Role.AGENT) if text else NOTHING
        reply = said("reply", "done", Role.AGENT) if replies and self.terms.replies == "either" else NOTHING
        self.end(turn, Outcome(state, message, reply))

    @rule(pick=picks)
    @precondition(lambda self: self.turns)
    def an_agent_leaves_the_task_as_it_stands(self, pick: int) -> None:
        self.end(self.turns[pick % len(self.turns)], decide.Rest())

    @rule(pick=picks)
    @precondition(lambda self: self.turns)
    def an_agent_raises(self, pick: int) -> None:
        outcome = Outcome(TaskState.FAILED, reason="raised", fault=decide.Fault.RAISED)
        self.end(self.turns[pick % len(self.turns)], outcome)

    @rule(pick=picks)
    @precondition(lambda self: self.turns and self.terms.policy != decide.FAIL)
    def an_agent_waits_for_a_timer(self, pick: int) -> None:
        self.end(self.turns[pick % len(self.turns)], decide.Suspend(NOW))

    def end(self, turn: Turn, outcome: decide.Leaving) -> None:
        endings: list[decide.Ending] = []

        def decision(head: Head, owner: Ownership) -> list[Entry]:
            endings.append(decide.ending(head, TASK, outcome, turn.given, self.terms, NOW))
            return endings[-1].entries

        record = self.owned(turn, decision)
        if record is None:
            return
        if not endings[-1].next_epoch:
            self.turns.remove(turn)
            return
        turn.epoch, turn.claim = endings[-1].next_epoch, record.header.record_id
        turn.given = max(p.position for p in self.heads[turn.actor].pending)
        self.give(turn.given)

    @rule(pick=picks)
    @precondition(lambda self: self.turns)
    def a_worker_drains(self, pick: int) -> None:
        turn = self.turns[pick % len(self.turns)]
        if self.terms.policy == decide.FAIL:
            self.end(turn, Outcome(TaskState.FAILED, reason="the worker stops", fault=decide.Fault.GIVEN_UP))
        else:
            self.end(turn, decide.Release("the worker stops"))

    @rule(pick=picks)
    @precondition(lambda self: self.turns)
    def a_worker_crashes(self, pick: int) -> None:
        self.turns.pop(pick % len(self.turns))

    # --- what must hold at every moment ------------------------------------------------------------------------------

    @invariant()
    def the_head_alone_is_the_head_of_the_fold(self) -> None:
        assert self.truth == self.fold.head

    @invariant()
    def the_fold_knows_what_the_auditor_knows(self) -> None:
        head, auditor = self.truth, self.auditor
        assert (auditor.epoch, auditor.open) == (head.epoch, head.turn is TurnState.OPEN)
        assert (auditor.handled, auditor.canceling) == (head.handled, bool(head.cancel))
        assert (auditor.ended is not None) == head.terminal
        pending = [name for position, name in auditor.messages.items() if position > auditor.handled]
        assert pending == [p.message_id for p in head.pending]

    @invariant()
    def at_most_one_worker_owns_the_turn(self) -> None:
        owners = [t for t in self.turns if decide.ownership(self.truth, t.epoch, t.claim) is not Ownership.FENCED]
        assert len(owners) <= 1

    @invariant()
    def an_unfinished_task_has_a_delivery_that_will_come_back(self) -> None:
        head = self.truth
        if self.forgetful or head.phase in AT_REST:
            return
        if head.turn is TurnState.OPEN:
            assert head.lease in self.broker
        else:
            assert {p.position for p in head.pending if p.position > self.auditor.parked} <= set(self.broker)
            assert head.pending
            if head.turn is TurnState.RELEASED:
                assert set("r") & set("".join(o.record.header.kinds for o in self.broker.values()))

    @invariant()
    def a_client_that_saw_every_update_has_the_task_s_status_and_artifacts(self) -> None:
        if not self.truth.exists:
            return
        task = decode(render.task(self.fold, TASK, {}), Task)
        assert task.status == (self.client.status or task.status)
        assert list(self.client.artifacts.values()) == list(task.artifacts)

    def teardown(self) -> None:
        if not self.log.records:
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(limits, "SEGMENT_BYTES", 200)
            self.every_prefix_leads_to_the_same_end()

    def every_prefix_leads_to_the_same_end(self) -> None:
        records = self.log.records
        whole = decode(render.task(self.fold, TASK, {}), Task)
        segments: dict[str, bytes] = {}
        walking = TaskFold.empty()
        for length, record in enumerate(records, 1):
            walking.apply(record)
            taken = snapshot.take(walking)
            for segment in taken.segments:
                assert segment.content == segments.setdefault(segment.key, segment.content)
            restored = snapshot.restore(taken.head)
            assert restored is not None
            for later in records[length:]:
                restored.apply(later)
            assert self.fold.head == restored.head
            assert self.fold.content.reply == restored.content.reply
            assert whole == decode(render.task(restored, TASK, segments), Task)


TestTurnProtocol = TurnProtocol.TestCase
TestTurnProtocol.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)

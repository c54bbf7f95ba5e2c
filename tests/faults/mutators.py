"""Ways in which a system can be wrong: each alters a valid run, and breaks one invariant at a random place."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from a2a_events.timeline.record import Writer
from faults import history as h
from faults.log_dump import Replica
from faults.receiver import ELSEWHERE
from tests.faults.book import SECOND, Book, header, kinds, line_of, with_line

Mutator: TypeAlias = Callable[[Book, Random], None]
MUTATORS: Final[dict[str, tuple[str, Mutator]]] = {}
"""Invariant and mutator by name."""

ENDED: Final = ("TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED")


def breaks(invariant: str) -> Callable[[Mutator], Mutator]:
    def register(mutator: Mutator) -> Mutator:
        MUTATORS[mutator.__name__] = (invariant, mutator)
        return mutator

    return register


def status(task: str, state: str) -> bytes:
    shown = {"state": state, "timestamp": "2026-11-21T10:00:00.000Z"}
    return msgspec.json.encode({"statusUpdate": {"taskId": task, "contextId": "c", "status": shown}})


def claim(book: Book, task: str, epoch: int, *, lease: int = 0, delivery: int = 1) -> bytes:
    lease = lease or book.of(task)[0].position
    return msgspec.json.encode({"turnClaimed": {"epoch": epoch, "lease": lease, "delivery": delivery}})


def completed(book: Book) -> list[str]:
    return book.tasks(lambda stored: b"TASK_STATE_COMPLETED" in stored[-1].payload)


def epochs(book: Book, task: str) -> int:
    return kinds(book.of(task)).count("c")


def whole_streams(book: Book, most: int = 3) -> list[list[tuple[str, int]]]:
    """Streams with at least so many updates after the Task."""
    return book.streams(lambda places: len(places) > most)


# --- I1: durable ------------------------------------------------------------------------------------------------------


@breaks("I1")
def lose_a_task_s_last_records(book: Book, chance: Random) -> None:
    task = chance.choice(completed(book))
    for record in book.of(task)[-chance.randint(1, 2) :]:
        book.log.remove(record)


@breaks("I1")
def lose_a_whole_task(book: Book, chance: Random) -> None:
    task = chance.choice(book.tasks())
    book.log = [record for record in book.log if record.task != task]


@breaks("I1")
def lose_the_newest_records_of_all(book: Book, chance: Random) -> None:
    del book.log[-chance.randint(1, 10) :]


@breaks("I1")
def alter_bytes_of_a_stored_record(book: Book, chance: Random) -> None:
    record = chance.choice(book.log)
    at = chance.randrange(len(record.payload))
    byte = bytes([record.payload[at] ^ 1])
    book.change(record, payload=record.payload[:at] + byte + record.payload[at + 1 :])


@breaks("I1")
def move_an_acknowledged_record(book: Book, chance: Random) -> None:
    task = chance.choice(book.tasks())
    record = book.of(task)[-1]
    book.log.remove(record)
    book.log.append(replace(record, position=book.log[-1].position + 2))


@breaks("I1")
def accept_a_message_and_forget_it(book: Book, chance: Random) -> None:
    tenant, task = chance.choice(
        [(book.fact(p).tenant, book.fact(book.end_of(p)).task) for p in book.ended(h.Send, "ok")]
    )
    send = h.Send(client="c", gateway="gateway-1", tenant=tenant, message_id="m-forgotten", task=task)
    book.call("driver", book.end_ns(), send, h.Answer(task=task))


@breaks("I1")
def cancel_a_task_and_forget_it(book: Book, chance: Random) -> None:
    task = f"t1-main-0-{chance.randbytes(11).hex()}"
    cancel = h.Cancel(client="x", gateway="gateway-1", tenant="acme", task=task)
    book.call("driver", book.end_ns(), cancel, h.Answer(task=task))


# --- I2: one terminal event -------------------------------------------------------------------------------------------


@breaks("I2")
def forge_a_second_end(book: Book, chance: Random) -> None:
    task = chance.choice(completed(book))
    book.store(task, "S", status(task, chance.choice(ENDED)))


@breaks("I2")
def say_more_after_the_end(book: Book, chance: Random) -> None:
    task = chance.choice(completed(book))
    artifact = {"artifactId": "late", "parts": [{"text": "late"}]}
    book.store(
        task, "A", msgspec.json.encode({"artifactUpdate": {"taskId": task, "contextId": "c", "artifact": artifact}})
    )


@breaks("I2")
def never_end(book: Book, chance: Random) -> None:
    """The ending was never offered: its worker forgot the task."""
    task = chance.choice([t for t in completed(book) if kinds(book.of(t)).count("S") > 1])
    record = book.of(task)[-1]
    begun = book.appended(record)
    book.drop(book.end_of(begun))
    book.drop(begun)
    book.log.remove(record)


@breaks("I2")
def complete_after_an_accepted_cancel(book: Book, chance: Random) -> None:
    task = chance.choice(book.tasks(lambda stored: "x" in kinds(stored)))
    record = book.of(task)[-1]
    payload = record.payload.replace(b"TASK_STATE_CANCELED", b"TASK_STATE_COMPLETED")
    book.change(record, payload=payload, told=True)


@breaks("I2")
def accept_a_cancel_without_an_effect(book: Book, chance: Random) -> None:
    task = chance.choice(completed(book))
    tenant = next(book.fact(p).tenant for p in book.find(h.Get, lambda g: g.task == task))
    cancel = h.Cancel(client="x", gateway="gateway-1", tenant=tenant, task=task)
    book.call("driver", book.end_ns(), cancel, h.Answer(task=task))


# --- I3: gapless ------------------------------------------------------------------------------------------------------


@breaks("I3")
def leave_a_gap_between_revisions(book: Book, chance: Random) -> None:
    record = chance.choice([r for r in book.log if header(r).revision > 1])
    book.change(record, revision=header(record).revision + chance.randint(1, 3), told=True)


@breaks("I3")
def repeat_a_revision(book: Book, chance: Random) -> None:
    record = chance.choice([r for r in book.log if header(r).revision > 1])
    book.change(record, revision=header(record).revision - 1, told=True)


@breaks("I3")
def store_a_record_twice(book: Book, chance: Random) -> None:
    record = chance.choice(book.log)
    book.log.append(replace(record, position=book.log[-1].position + 1))


@breaks("I3")
def append_behind_a_wrong_position(book: Book, chance: Random) -> None:
    record = chance.choice([r for r in book.log if header(r).revision > 1])
    place = book.appended(record)
    book.alter(place, expected=book.fact(place).expected - 1)


@breaks("I3")
def swap_two_records_of_a_task(book: Book, chance: Random) -> None:
    task = chance.choice(book.tasks(lambda stored: len(stored) > 2))
    stored = book.of(task)
    at = chance.randrange(len(stored) - 1)
    one, other = stored[at], stored[at + 1]
    first, second = book.log.index(one), book.log.index(other)
    book.log[first] = replace(other, position=one.position)
    book.log[second] = replace(one, position=other.position)


@breaks("I3")
def count_generations_wrong(book: Book, chance: Random) -> None:
    record = chance.choice(book.log)
    book.change(record, generation=header(record).generation + 1)


# --- I4: the same order for all ---------------------------------------------------------------------------------------


@breaks("I4")
def lose_an_update_in_a_stream(book: Book, chance: Random) -> None:
    places = chance.choice(whole_streams(book))
    book.drop(places[chance.randrange(1, len(places) - 1)])


@breaks("I4")
def repeat_an_update_in_a_stream(book: Book, chance: Random) -> None:
    life, line = chance.choice(chance.choice(whole_streams(book))[1:])
    book.lives[life].insert(line, book.event((life, line)))


@breaks("I4")
def swap_two_updates_in_a_stream(book: Book, chance: Random) -> None:
    places = chance.choice(whole_streams(book))
    at = chance.randrange(1, len(places) - 1)
    one, other = book.event(places[at]), book.event(places[at + 1])
    book.put(places[at], other)
    book.put(places[at + 1], one)


@breaks("I4")
def show_one_subscriber_other_bytes(book: Book, chance: Random) -> None:
    place = chance.choice(chance.choice(whole_streams(book))[1:])
    book.alter(place, digest=h.digest(b"other"))


@breaks("I4")
def resume_from_now_instead_of_the_cursor(book: Book, chance: Random) -> None:
    place = chance.choice(book.find(h.Subscribe, lambda s: bool(s.cursor)))
    number = book.event(place).number
    places = next(p for p in book.streams() if book.fact(p[0]).stream == number)
    for update in reversed(places[: chance.randint(1, len(places) - 1)]):
        book.drop(update)


@breaks("I4")
def show_an_update_after_the_end(book: Book, chance: Random) -> None:
    places = chance.choice(book.streams(lambda p: book.fact(p[-1]).state in ENDED))
    life, line = places[-1]
    late = replace(book.fact(places[-1]), cursor="", digest=h.digest(b"late"), state="TASK_STATE_WORKING")
    book.lives[life].insert(line + 1, replace(book.event(places[-1]), fact=late))


@breaks("I4")
def close_a_stream_before_its_task_ends(book: Book, chance: Random) -> None:
    places = chance.choice(
        book.streams(lambda p: len(p) > 2 and book.fact(p[-1]).state in ENDED and book.fact(p[-1]).kind != "task")
    )
    book.drop(places[-1])


@breaks("I4")
def begin_a_stream_without_the_task(book: Book, chance: Random) -> None:
    places = chance.choice(book.streams(lambda p: book.fact(p[0]).kind == "task" and len(p) > 1))
    book.drop(places[0])


@breaks("I4")
def show_a_stream_of_another_task(book: Book, chance: Random) -> None:
    places = chance.choice(whole_streams(book))
    task = book.fact(places[0]).task
    other = chance.choice([t for t in book.tasks() if t != task])
    book.alter(chance.choice(places[1:]), task=other)


# --- I5: folds --------------------------------------------------------------------------------------------------------


@breaks("I5")
def answer_with_an_old_task_at_last(book: Book, chance: Random) -> None:
    place = chance.choice(book.ended(h.Get, "ok", lambda g: g.final))
    book.alter(book.end_of(place), state="TASK_STATE_WORKING")


@breaks("I5")
def answer_with_a_task_that_never_was(book: Book, chance: Random) -> None:
    place = chance.choice(book.ended(h.Get, "ok"))
    book.alter(book.end_of(place), view=h.digest(b"never"))


@breaks("I5")
def begin_a_stream_with_a_task_that_never_was(book: Book, chance: Random) -> None:
    place = chance.choice(book.find(h.Update, lambda u: u.kind == "task"))
    book.alter(place, digest=h.digest(b"never"))


@breaks("I5")
def list_a_task_in_an_old_state(book: Book, chance: Random) -> None:
    place = chance.choice(book.find(h.Page, lambda p: bool(p.rows)))
    rows = list(book.fact(place).rows)
    at = chance.randrange(len(rows))
    rows[at] = replace(rows[at], state="TASK_STATE_WORKING")
    book.alter(place, rows=tuple(rows))


@breaks("I5")
def leave_a_task_out_of_a_list(book: Book, chance: Random) -> None:
    place = chance.choice(book.find(h.Page, lambda p: bool(p.rows)))
    rows = list(book.fact(place).rows)
    del rows[chance.randrange(len(rows))]
    book.alter(place, rows=tuple(rows))


@breaks("I5")
def add_up_something_else(book: Book, chance: Random) -> None:
    streams = {book.fact(places[0]).stream for places in whole_streams(book)}
    place = chance.choice(book.find(h.StreamEnd, lambda e: e.stream in streams))
    book.alter(place, view=h.digest(b"something else"))


# --- I6: live ---------------------------------------------------------------------------------------------------------


@breaks("I6")
def never_close_a_stream(book: Book, chance: Random) -> None:
    book.drop(chance.choice(book.find(h.StreamEnd)))


@breaks("I6")
def close_a_stream_long_after_its_task(book: Book, chance: Random) -> None:
    place = chance.choice(book.find(h.StreamEnd, lambda e: e.how == "closed"))
    event = book.event(place)
    book.put(place, replace(event, at_ns=event.at_ns + 30 * SECOND))


@breaks("I6")
def fall_silent_in_a_stream(book: Book, chance: Random) -> None:
    book.alter(chance.choice(book.find(h.StreamEnd, lambda e: e.how == "closed")), silence_seconds=120.0)


@breaks("I6")
def never_answer_a_request(book: Book, chance: Random) -> None:
    place = chance.choice(book.ended(chance.choice((h.Get, h.Send, h.Cancel)), "ok"))
    book.drop(book.end_of(place))


@breaks("I6")
def answer_a_request_too_late(book: Book, chance: Random) -> None:
    place = book.end_of(chance.choice(book.ended(chance.choice((h.Get, h.Cancel)), "ok")))
    event = book.event(place)
    book.put(place, replace(event, at_ns=event.at_ns + 60 * SECOND))


@breaks("I6")
def drop_a_message_silently(book: Book, chance: Random) -> None:
    """A message is stored, and the end of the task knows nothing of it."""
    task = chance.choice(book.tasks(lambda stored: kinds(stored).count("m") == 1))
    messages = [r for r in book.of(task) if "m" in header(r).kinds]
    before = messages[0].position - 1
    for record in book.of(task):
        if "e" in header(record).kinds:
            ended = line_of(record, "e")
            ended["turnEnded"]["handled"] = min(before, ended["turnEnded"]["handled"])
            book.change(record, payload=with_line(record, "e", ended), told=True)


@breaks("I6")
def acknowledge_a_message_before_it_is_settled(book: Book, chance: Random) -> None:
    delivered = chance.choice(book.find(h.Acknowledge, lambda a: a.position == book.of(a.task)[0].position))
    event = book.event(delivered)
    # The claim is stored by then, the ending is not.
    book.put(delivered, replace(event, at_ns=book.event(book.appended(book.of(event.fact.task)[0])).at_ns + 1))  # type: ignore[union-attr]


@breaks("I6")
def stand_still_after_everything_has_healed(book: Book, chance: Random) -> None:
    task = chance.choice(book.tasks(lambda stored: len(stored) > 2 and "INPUT" not in str(stored[-1].payload)))
    place = book.appended(book.of(task)[-1])
    healed = book.event(book.find(h.Heal)[0]).at_ns
    late = healed + 100 * SECOND
    for where in (book.end_of(place), place):
        book.put(where, replace(book.event(where), at_ns=late))


# --- I7: fenced -------------------------------------------------------------------------------------------------------


def running(book: Book, chance: Random) -> str:
    """A task whose turn is open at the end of the log: the ending is taken away."""
    task = chance.choice([t for t in completed(book) if epochs(book, t) == 1])
    record = book.of(task)[-1]
    begun = book.appended(record)
    book.drop(book.end_of(begun))
    book.drop(begun)
    book.log.remove(record)
    return task


@breaks("I7")
def let_two_workers_claim_a_turn(book: Book, chance: Random) -> None:
    task = running(book, chance)
    book.store(task, "c", claim(book, task, 2), writer=Writer("worker", "worker-1"), epoch=2)


@breaks("I7")
def claim_an_epoch_again(book: Book, chance: Random) -> None:
    task = running(book, chance)
    book.store(task, "c", claim(book, task, 1, delivery=2), writer=Writer("worker", "worker-1"), epoch=1)


@breaks("I7")
def accept_an_append_of_an_old_epoch(book: Book, chance: Random) -> None:
    task = running(book, chance)
    owner = Writer("worker", header(book.of(task)[-1]).writer.instance)
    lease = book.of(task)[0].position
    book.store(task, "c", claim(book, task, 2, lease=lease, delivery=9), writer=Writer("worker", "worker-1"), epoch=2)
    book.store(task, "S", status(task, "TASK_STATE_WORKING"), writer=owner, epoch=1)


@breaks("I7")
def lower_an_epoch(book: Book, chance: Random) -> None:
    task = chance.choice([t for t in book.tasks() if epochs(book, t) > 1])
    record = chance.choice(
        [r for r in book.of(task) if header(r).epoch == epochs(book, task)][1:] or [book.of(task)[-1]]
    )
    book.change(record, epoch=header(record).epoch - 1, told=True)


@breaks("I7")
def write_without_a_claim(book: Book, chance: Random) -> None:
    record = chance.choice([r for r in book.log if header(r).epoch and "c" not in header(r).kinds])
    book.change(record, epoch=header(record).epoch + 1, told=True)


@breaks("I7")
def let_another_worker_write_under_a_claim(book: Book, chance: Random) -> None:
    record = chance.choice([r for r in book.log if header(r).epoch and "c" not in header(r).kinds])
    book.change(record, writer=Writer("worker", "worker-9"))


@breaks("I7")
def write_on_after_being_fenced(book: Book, chance: Random) -> None:
    record = chance.choice([r for r in book.log if header(r).epoch and "c" not in header(r).kinds])
    place = book.appended(record)
    fenced = h.Fenced(task=record.task, epoch=header(record).epoch)
    book.lives[place[0]].insert(place[1], h.Event(book.event(place).at_ns - 1, "worker-2", "note", 0, fenced))


# --- I8: idempotent ---------------------------------------------------------------------------------------------------


def keyed(book: Book, chance: Random) -> tuple[str, int]:
    return chance.choice(book.ended(h.Send, "ok", lambda s: bool(s.key)))


@breaks("I8")
def make_two_tasks_for_one_key(book: Book, chance: Random) -> None:
    place = keyed(book, chance)
    operation = book.fact(place)
    other = chance.choice([t for t in book.tasks() if t != book.fact(book.end_of(place)).task])
    book.call("driver", book.end_ns(), operation, h.Answer(task=other))


@breaks("I8")
def accept_another_body_under_a_key(book: Book, chance: Random) -> None:
    place = keyed(book, chance)
    operation = replace(book.fact(place), body=h.digest(b"another"))
    book.call("driver", book.end_ns(), operation, book.fact(book.end_of(place)))


@breaks("I8")
def store_a_message_twice(book: Book, chance: Random) -> None:
    """A retry is stored once more, onto the same task."""
    task = chance.choice(book.tasks(lambda stored: "INPUT_REQUIRED" in str(stored[-1].payload)))
    submitted = line_of(book.of(task)[0], "s")["submitted"]
    again = {"messageReceived": {"message": submitted["message"], "actor": submitted["actor"]}}
    book.store(task, "m", msgspec.json.encode(again))


# --- I9: no phantoms --------------------------------------------------------------------------------------------------


@breaks("I8")
def store_two_messages_under_one_key(book: Book, chance: Random) -> None:
    """Two messages that the log itself says are one."""
    tenant = chance.choice(("acme", "globex"))
    for task in chance.sample([t for t in book.tasks() if owner(book, t) == tenant], 2):
        record = book.of(task)[0]
        submitted = line_of(record, "s")
        submitted["submitted"]["idempotencyKey"] = "hash-of-a-key"
        book.change(record, payload=with_line(record, "s", submitted), told=True)


@breaks("I9")
def invent_a_record(book: Book, chance: Random) -> None:
    task = chance.choice(book.tasks())
    record = book.store(task, "w", msgspec.json.encode({"pushConfigSet": {"id": "w", "url": "https://example.org"}}))
    begun = book.appended(record)
    book.drop(book.end_of(begun))
    book.drop(begun)


@breaks("I9")
def store_other_bytes_than_were_offered(book: Book, chance: Random) -> None:
    record = chance.choice(book.log)
    place = book.appended(record)
    book.put(book.end_of(place), replace(book.event(book.end_of(place)), phase="info", fact=None, error="Uncertain"))
    book.change(record, payload=record.payload + b" ")


@breaks("I9")
def store_a_message_that_nobody_sent(book: Book, chance: Random) -> None:
    place = chance.choice(book.ended(h.Send, "ok"))
    book.drop(book.end_of(place))
    book.drop(place)


# --- I10: isolated ----------------------------------------------------------------------------------------------------


@breaks("I10")
def show_another_tenant_s_content_in_a_stream(book: Book, chance: Random) -> None:
    place = chance.choice(book.find(h.Update))
    tenant = owner(book, book.fact(place).task)
    book.alter(place, canaries=(other_than(tenant),))


@breaks("I10")
def show_another_tenant_s_content_in_an_answer(book: Book, chance: Random) -> None:
    place = chance.choice(book.ended(h.Get, "ok"))
    book.alter(book.end_of(place), canaries=(other_than(book.fact(place).tenant),))


@breaks("I10")
def post_another_tenant_s_content(book: Book, chance: Random) -> None:
    place = chance.choice(book.find(h.Webhook))
    book.alter(place, canaries=(other_than(owner(book, book.fact(place).task)),))


@breaks("I10")
def list_another_tenant_s_task(book: Book, chance: Random) -> None:
    place = chance.choice(book.ended(h.ListTasks, "ok"))
    foreign = [t for t in book.tasks() if owner(book, t) != book.fact(place).tenant]
    page = book.end_of(place)
    book.alter(page, rows=(*book.fact(page).rows, h.Row(chance.choice(foreign), "TASK_STATE_COMPLETED")))


@breaks("I10")
def store_another_tenant_s_content(book: Book, chance: Random) -> None:
    record = chance.choice([r for r in book.log if b"canary-of-" in r.payload])
    tenant = owner(book, record.task)
    texts = {book.fact(p).tenant: book.fact(p).text.encode() for p in book.find(h.Canary)}
    payload = record.payload.replace(texts[tenant], texts[other_than(tenant)])
    book.change(record, payload=payload, told=True)


def other_than(tenant: str) -> str:
    return {"acme": "globex", "globex": "acme"}[tenant]


def owner(book: Book, task: str) -> str:
    tenant: str = next(book.fact(p).tenant for p in book.find(h.Get, lambda g: g.task == task))
    return tenant


# --- I11: replicas ----------------------------------------------------------------------------------------------------


def replica(book: Book) -> list[Replica]:
    return [Replica(record.position, h.digest(msgspec.json.encode(record))) for record in book.log]


@breaks("I11")
def give_one_replica_other_bytes(book: Book, chance: Random) -> None:
    messages = replica(book)
    at = chance.randrange(len(messages))
    messages[at] = replace(messages[at], digest=h.digest(b"rotten"))
    book.replicas[chance.choice(book.servers)] = messages


@breaks("I11")
def leave_one_replica_behind(book: Book, chance: Random) -> None:
    messages = replica(book)
    del messages[-chance.randint(1, 5) :]
    book.replicas[chance.choice(book.servers)] = messages


@breaks("I11")
def lose_a_message_on_one_replica(book: Book, chance: Random) -> None:
    messages = replica(book)
    del messages[chance.randrange(len(messages))]
    book.replicas[chance.choice(book.servers)] = messages


# --- I12: honest ------------------------------------------------------------------------------------------------------


@breaks("I12")
def refuse_an_append_and_store_it(book: Book, chance: Random) -> None:
    place = book.end_of(book.appended(chance.choice(book.log)))
    book.put(place, replace(book.event(place), phase="fail", fact=None, error="Unavailable: nothing was written"))


@breaks("I12")
def refuse_a_message_and_store_it(book: Book, chance: Random) -> None:
    place = book.end_of(chance.choice(book.ended(h.Send, "ok", lambda s: not s.streaming)))
    book.put(place, replace(book.event(place), phase="fail", fact=None, error="InvalidParamsError: no"))


@breaks("I12")
def refuse_a_cancel_of_a_task_that_goes_on(book: Book, chance: Random) -> None:
    task = chance.choice(book.tasks(lambda stored: "INPUT_REQUIRED" in str(stored[-1].payload)))
    cancel = h.Cancel(client="x", gateway="gateway-1", tenant=owner(book, task), task=task)
    book.call("driver", book.end_ns(), cancel, "TaskNotCancelableError: it has ended")


# --- I13: real time ---------------------------------------------------------------------------------------------------


@breaks("I13")
def put_a_record_before_an_acknowledged_one(book: Book, chance: Random) -> None:
    task = chance.choice(book.tasks(lambda stored: len(stored) > 2))
    stored = book.of(task)
    at = chance.randrange(len(stored) - 1)
    place = book.appended(stored[at])
    told = book.event(book.end_of(book.appended(stored[at + 1]))).at_ns
    for where in (place, book.end_of(place)):
        book.put(where, replace(book.event(where), at_ns=told + SECOND))


@breaks("I13")
def show_a_client_its_task_younger(book: Book, chance: Random) -> None:
    """One client gets the end, and then the beginning."""
    task = chance.choice([book.fact(p).task for p in book.ended(h.Get, "ok", lambda g: g.task in set(completed(book)))])
    gets = book.ended(h.Get, "ok", lambda g: g.task == task)
    newest = book.fact(book.end_of(gets[-1]))
    shown = [book.fact(p) for p in book.find(h.Update, lambda u: u.kind == "task" and u.task == task)]
    older = [u for u in shown if u.digest != newest.view]
    if not older:
        # Nobody saw it earlier: a blocking answer of its own.
        task = next(
            t
            for t in completed(book)
            if any(book.fact(p).task == t for p in book.find(h.Update, lambda u: u.kind == "task"))
        )
        shown = [book.fact(p) for p in book.find(h.Update, lambda u: u.kind == "task" and u.task == task)]
        older = shown
    get = h.Get(client=f"g-{owner(book, task)}", gateway="gateway-1", tenant=owner(book, task), task=task)
    book.call("driver", book.end_ns(), get, h.Answer(task=task, state="TASK_STATE_WORKING", view=older[0].digest))


@breaks("I13")
def not_find_a_stored_task(book: Book, chance: Random) -> None:
    task = chance.choice(book.tasks())
    get = h.Get(client="g", gateway="gateway-1", tenant=owner(book, task), task=task)
    book.call("driver", book.end_ns(), get, "TaskNotFoundError: no such task")


# --- I14: webhooks ----------------------------------------------------------------------------------------------------


def called(book: Book, chance: Random) -> list[tuple[str, int]]:
    """The calls of a webhook that took everything in the end."""
    taken = book.find(h.Webhook, lambda w: w.config.startswith(("inline", "later")))
    config = chance.choice([book.fact(place).config for place in taken])
    return book.find(h.Webhook, lambda w: w.config == config)


def of_revision(book: Book, places: list[tuple[str, int]], revision: int) -> list[tuple[str, int]]:
    return [place for place in places if book.fact(place).revision == revision]


def revisions_of(book: Book, places: list[tuple[str, int]]) -> list[int]:
    return sorted({book.fact(place).revision for place in places})


def call_again(book: Book, place: tuple[str, int], **members: Any) -> None:
    """One more call like this one, but for these members."""
    event = replace(book.event(place), at_ns=book.end_ns(), fact=replace(book.fact(place), **members))
    book.add(event.process, event)


@breaks("I14")
def lose_a_webhook_s_update(book: Book, chance: Random) -> None:
    places = called(book, chance)
    for place in reversed(of_revision(book, places, chance.choice(revisions_of(book, places)[:-1]))):
        book.drop(place)


@breaks("I14")
def lose_a_webhook_s_end(book: Book, chance: Random) -> None:
    places = called(book, chance)
    for place in reversed(of_revision(book, places, revisions_of(book, places)[-1])):
        book.drop(place)


@breaks("I14")
def never_call_a_webhook(book: Book, chance: Random) -> None:
    for place in reversed(called(book, chance)):
        book.drop(place)


@breaks("I14")
def refuse_a_webhook_s_update_for_ever(book: Book, chance: Random) -> None:
    places = called(book, chance)
    for place in of_revision(book, places, chance.choice(revisions_of(book, places))):
        book.alter(place, status=500)


@breaks("I14")
def call_a_webhook_out_of_order(book: Book, chance: Random) -> None:
    places = called(book, chance)
    at = chance.randrange(len(revisions_of(book, places)) - 1)
    one, other = (of_revision(book, places, r)[0] for r in revisions_of(book, places)[at : at + 2])
    first, second = book.event(one), book.event(other)
    book.put(one, replace(first, fact=second.fact))
    book.put(other, replace(second, fact=first.fact))


@breaks("I14")
def give_two_events_of_a_webhook_one_id(book: Book, chance: Random) -> None:
    places = called(book, chance)
    one, other = (of_revision(book, places, r)[0] for r in chance.sample(revisions_of(book, places), 2))
    book.alter(other, event_id=book.fact(one).event_id)


@breaks("I14")
def repeat_a_webhook_s_event_under_another_id(book: Book, chance: Random) -> None:
    place = chance.choice(called(book, chance))
    fact = book.fact(place)
    call_again(book, place, event_id=f"{fact.task}.{fact.revision + chance.choice((-1, 1, 100))}")


@breaks("I14")
def repeat_a_webhook_s_event_without_an_id(book: Book, chance: Random) -> None:
    call_again(book, chance.choice(called(book, chance)), event_id="")


@breaks("I14")
def repeat_a_webhook_s_event_in_other_bytes(book: Book, chance: Random) -> None:
    call_again(book, chance.choice(called(book, chance)), body=chance.randbytes(12).hex())


@breaks("I14")
def say_something_else_to_a_webhook(book: Book, chance: Random) -> None:
    place = chance.choice(called(book, chance))
    revision = book.fact(place).revision
    for same in of_revision(book, book.find(h.Webhook, lambda w: w.config == book.fact(place).config), revision):
        book.alter(same, digest="other", body="other")


@breaks("I14")
def send_a_webhook_s_update_to_another(book: Book, chance: Random) -> None:
    place = chance.choice(called(book, chance))
    tenant = owner(book, book.fact(place).task)
    others = {w.config for p in book.find(h.Webhook) if (w := book.fact(p)).tenant == tenant and w.task}
    call_again(book, place, config=chance.choice(sorted(others - {book.fact(place).config})))


@breaks("I14")
def follow_a_redirect(book: Book, chance: Random) -> None:
    call_again(book, chance.choice(called(book, chance)), config=ELSEWHERE, tenant="", status=404)


@breaks("I14")
def tell_a_webhook_what_was_before_it(book: Book, chance: Random) -> None:
    place = chance.choice(book.find(h.Webhook, lambda w: w.config.startswith("later")))
    task = book.fact(place).task
    record = next(r for r in book.of(task) if "S" in header(r).kinds)
    at = header(record).kinds.index("S")
    line = record.payload.split(b"\n")[at]
    made = h.webhook(book.fact(place).config, line, event_id=f"{task}.{header(record).revision + at}")
    call_again(book, place, **{name: getattr(made, name) for name in ("digest", "body", "event_id")})


@breaks("I14")
def give_up_a_webhook_too_early(book: Book, chance: Random) -> None:
    record = chance.choice([r for r in book.log if "l" in header(r).kinds])
    line = line_of(record, "l")
    line["deadLetter"]["attempts"] = chance.randint(1, 7)
    book.change(record, payload=with_line(record, "l", line), told=True)


@breaks("I14")
def give_up_a_webhook_in_silence(book: Book, chance: Random) -> None:
    """The log does not say so; it said something of another version in its place."""
    record = chance.choice([r for r in book.log if "l" in header(r).kinds])
    book.change(record, payload=b'{"laterThing":{}}', kinds="q", told=True)


@breaks("I1")
def accept_a_webhook_and_forget_it(book: Book, chance: Random) -> None:
    task = chance.choice(book.tasks())
    wish = h.SetWebhook(client="w", gateway="gateway-1", tenant=owner(book, task), task=task, webhook="forgotten")
    book.call("driver", book.end_ns(), wish, h.Done())


@breaks("I1")
def accept_a_message_and_forget_its_webhook(book: Book, chance: Random) -> None:
    book.alter(chance.choice(book.ended(h.Send, "ok", lambda s: not s.task)), webhook="forgotten")


@breaks("I1")
def accept_a_webhook_s_end_and_forget_it(book: Book, chance: Random) -> None:
    place = chance.choice(called(book, chance))
    task, config = book.fact(place).task, book.fact(place).config
    wish = h.DeleteWebhook(client="w", gateway="gateway-1", tenant=owner(book, task), task=task, webhook=config)
    book.call("driver", book.end_ns(), wish, h.Done())


@breaks("I12")
def set_a_webhook_that_was_refused(book: Book, chance: Random) -> None:
    place = chance.choice(book.ended(h.SetWebhook, "ok"))
    end = book.end_of(place)
    book.put(end, replace(book.event(end), phase="fail", fact=None, error="InvalidParamsError: no"))


@breaks("I10")
def call_a_webhook_with_another_s_token(book: Book, chance: Random) -> None:
    call_again(book, chance.choice(called(book, chance)), status=h.FOREIGN)


@breaks("I10")
def call_a_webhook_of_another_tenant(book: Book, chance: Random) -> None:
    place = chance.choice(called(book, chance))
    tenant = owner(book, book.fact(place).task)
    foreign = book.find(h.Webhook, lambda w: w.tenant == other_than(tenant))
    config = book.fact(chance.choice(foreign)).config
    call_again(book, place, config=config, tenant=other_than(tenant))


# --- I15: leaks -------------------------------------------------------------------------------------------------------


@breaks("I15")
def leak_consumers(book: Book, chance: Random) -> None:
    place = book.find(h.Resources, lambda r: r.when == "after")[0]
    book.alter(place, counts={**book.fact(place).counts, "consumers": 4 + chance.randint(1, 9)})


@breaks("I15")
def leak_memory(book: Book, chance: Random) -> None:
    place = book.find(h.Resources, lambda r: r.when == "after")[0]
    book.alter(place, counts={**book.fact(place).counts, "worker-1 rss_bytes": 1101 + chance.randint(0, 999)})


# --- I16: poison ------------------------------------------------------------------------------------------------------


def poisoned(book: Book, chance: Random) -> str:
    place = chance.choice(book.ended(h.Send, "ok", lambda s: s.poison))
    task: str = book.fact(book.end_of(place)).task
    return task


@breaks("I16")
def complete_a_poisoned_task(book: Book, chance: Random) -> None:
    record = book.of(poisoned(book, chance))[-1]
    book.change(record, payload=record.payload.replace(b"STATE_FAILED", b"STATE_COMPLETED"), told=True)


@breaks("I16")
def not_name_a_poisoned_task_as_dead(book: Book, chance: Random) -> None:
    record = book.of(poisoned(book, chance))[-1]
    known = header(record).kinds
    book.change(record, kinds=known.replace("L", "q"), told=True)


@breaks("I16")
def try_a_poisoned_task_too_often(book: Book, chance: Random) -> None:
    record = book.of(poisoned(book, chance))[-1]
    letter = line_of(record, "L")
    letter["taskDeadLettered"]["attempts"] = 6 + chance.randint(0, 9)
    book.change(record, payload=with_line(record, "L", letter), told=True)


@breaks("I16")
def delay_others_beside_a_poisoned_task(book: Book, chance: Random) -> None:
    """Every other task waits for its first claim while a poisoned one lives; no fault excuses it."""
    for place in reversed(book.find(h.Fault)):
        book.drop(book.end_of(place))
        book.drop(place)
    poison = poisoned(book, chance)
    begun = min(book.event(book.appended(book.of(t)[0])).at_ns for t in book.tasks())
    first = book.appended(book.of(poison)[0])
    for where in (first, book.end_of(first)):
        book.put(where, replace(book.event(where), at_ns=begun - SECOND))
    last = book.end_of(book.appended(book.of(poison)[-1]))
    book.put(last, replace(book.event(last), at_ns=book.end_ns()))
    for task in book.tasks():
        claims = [r for r in book.of(task) if "c" in header(r).kinds]
        if task != poison and claims:
            place = book.end_of(book.appended(claims[0]))
            book.put(place, replace(book.event(place), at_ns=book.event(place).at_ns + 2 * SECOND))

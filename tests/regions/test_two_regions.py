"""Two JetStream domains on loopback, gateways and workers in both: one system, also while the link is cut."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import msgspec
import pytest

from a2a_events.errors import LogError, TaskNotCancelableError, TaskNotFoundError, Unavailable, Unreachable
from a2a_events.log.jetstream import Names
from a2a_events.log.jetstream.wire import header_value
from a2a_events.model import ListTasksRequest, TaskState
from a2a_events.runtime.load import load
from a2a_events.runtime.retention import Retention
from a2a_events.runtime.seal import Seals, Secrets
from a2a_events.services.exposition import exposed
from a2a_events.testing import eventually
from a2a_events.timeline.cursor import Cursor, text
from a2a_events.timeline.ids import parse_task_id
from a2a_events.timeline.record import Writer
from a2a_events.timeline.snapshot import take as snapshot_of
from faults.regions import EU, US
from tests.regions.two import TwoRegions, ref, shown, take

pytestmark = pytest.mark.integration

AT_ONCE_SECONDS = 3.0
"""Far above what an answer takes, far below every patience."""


async def test_a_stream_that_began_in_one_region_goes_on_in_the_other(two: TwoRegions) -> None:
    gate = two.gate("talk")
    async with aclosing(shown(await two.eu.stream("talk"))) as first:
        (begun,) = await take(first, 1)
        task_id = msgspec.json.decode(begun.line)["task"]["id"]
        gate.put_nowait("one")
        seen = [begun]
        while b"artifactUpdate" not in seen[-1].line:
            seen += await take(first, 1)
    async with aclosing(shown(await two.us.subscribe(task_id, seen[-1].cursor))) as second:
        gate.put_nowait("two")
        gate.put_nowait("")
        rest = [update async for update in second]

    assert b"two" in b"".join(update.line for update in rest)
    assert b"TASK_STATE_COMPLETED" in rest[-1].line
    whole = [(u.revision, u.cursor, u.line) for u in await two.eu.replay(task_id, begun.cursor)]
    assert [(u.revision, u.cursor, u.line) for u in await two.us.replay(task_id, begun.cursor)] == whole
    assert [(u.revision, u.cursor, u.line) for u in [*seen[1:], *rest]] == whole


async def test_a_client_reads_what_it_has_just_written_in_the_other_region(two: TwoRegions) -> None:
    task = await two.eu.calls.send_task("ask")
    assert task.status.state is TaskState.INPUT_REQUIRED
    await two.even()
    two.link.delay(0.3)  # so the mirror is behind by far more than a request takes

    await two.us.send("ask", task_id=task.id)
    texts = [message.parts[0].text for message in (await two.us.calls.get(task.id)).history]
    assert texts.count("ask") == 2
    listed = await two.us.calls.page()
    assert task.id in {found.id for found in listed.tasks}

    assert (await two.us.calls.cancel(task.id)).status.state is TaskState.CANCELED
    assert (await two.us.calls.get(task.id)).status.state is TaskState.CANCELED


async def test_a_mirror_that_lags_after_the_link_has_healed_shows_nobody_less_than_it_wrote(two: TwoRegions) -> None:
    """nats-server takes many seconds until it looks at a mirror again; appends get through at once."""
    task = await two.eu.calls.send_task("ask")
    await two.even()
    await two.cut()
    for number in range(3):
        await two.eu.send(f"meanwhile {number}")
    await two.heal()
    await eventually(lambda: two.us.log.mirrors[0].reachable, timeout_seconds=20)
    await two.us.send("ask", task_id=task.id)
    honest = 0
    while True:
        try:
            shown_now = await two.us.calls.get(task.id)
        except Unavailable:
            honest += 1
            assert honest < 12, "the mirror never came"
            continue
        break
    assert [m.parts[0].text for m in shown_now.history].count("ask") == 2


async def test_writers_in_both_regions_meet_in_one_order(two: TwoRegions) -> None:
    gate = two.gate("meeting")
    task = await two.eu.send("meeting")
    gate.put_nowait("begun")  # what comes before a turn has begun is part of it

    async def begun() -> bool:
        return bool((await two.us.calls.get(task.id)).artifacts)

    await eventually(begun, timeout_seconds=30)
    texts = [f"{region}-{number}" for number in range(5) for region in (EU, US)]
    await asyncio.gather(*(two.gateways[text[:2]].send(text, task_id=task.id) for text in texts))
    gate.put_nowait("")

    async def ended() -> bool:
        return (await two.eu.calls.get(task.id)).status.state is TaskState.COMPLETED

    # What the agent was not given during its turn makes further turns.
    await eventually(ended, timeout_seconds=30)
    history = [str(m.parts[0].text) for m in (await two.eu.calls.get(task.id)).history]
    assert sorted(t for t in history if t in texts) == sorted(texts)
    await two.even()
    assert await two.us.records(ref(task.id)) == await two.eu.records(ref(task.id))


async def _is_there_in_us(two: TwoRegions, task_id: str) -> None:
    async def there() -> bool:
        return bool(await two.us.log.last(ref(task_id)))

    await eventually(there)


async def test_lists_show_the_tasks_of_both_regions_in_both(two: TwoRegions) -> None:
    of_eu = [(await two.eu.calls.send_task(f"eu {n}")).id for n in range(4)]
    of_us = [(await two.us.calls.send_task(f"us {n}")).id for n in range(4)]
    await two.even()
    for gateway in (two.eu, two.us):
        pages: list[str] = []
        token = ""
        while True:
            page = await gateway.calls.page(ListTasksRequest(page_size=3, page_token=token))
            pages += [task.id for task in page.tasks]
            if not (token := page.next_page_token):
                break
        assert sorted(pages) == sorted(of_eu + of_us)
        assert {parse_task_id(task_id)[0] for task_id in pages} == {EU, US}  # type: ignore[index]


async def test_a_task_that_was_removed_is_shown_in_no_region(two: TwoRegions) -> None:
    """Its snapshot stays in the other region's mirror: removals do not reach it."""
    task = ref((await two.eu.calls.send_task("said and done")).id)
    await two.eu.log.save(task, snapshot_of(await load(two.eu.log, task)))
    await two.even()
    await eventually(lambda: two.us.log.snapshot(task))
    assert (await two.us.calls.get(task.task_id)).status.state is TaskState.COMPLETED
    retention = Retention(two.eu.log, Writer("retention", "test"), older_than_seconds=0.0, grace_seconds=0.0)
    assert (await retention.run()).tasks == 1

    async def removed() -> bool:
        try:
            await two.us.calls.get(task.task_id)
        except TaskNotFoundError:
            return True
        return False

    await eventually(removed, timeout_seconds=20)
    assert task.task_id not in {found.id for found in (await two.us.calls.page()).tasks}


async def test_while_the_link_is_cut_reads_go_on_and_writes_are_refused_at_once(two: TwoRegions) -> None:
    ended = await two.eu.calls.send_task("before the cut")
    gate = two.gate("through the cut")
    stream = shown(await two.eu.stream("through the cut"))
    begun = await anext(stream)
    open_id = msgspec.json.decode(begun.line)["task"]["id"]
    gate.put_nowait("said before")
    while b"said before" not in (await anext(stream)).line:
        pass
    abroad = shown(await two.us.subscribe(open_id))
    await take(abroad, 1)
    await two.even()

    await two.cut()
    gate.put_nowait("said during")
    while b"said during" not in (await anext(stream)).line:
        pass

    async with asyncio.timeout(AT_ONCE_SECONDS):
        assert (await two.us.calls.get(ended.id)).status.state is TaskState.COMPLETED
        replayed = await two.us.replay(ended.id, await _beginning(two, ended.id))
        assert b"TASK_STATE_COMPLETED" in replayed[-1].line
        assert {ended.id, open_id} <= {task.id for task in (await two.us.calls.page()).tasks}
    for write in (two.us.send("more", task_id=open_id), two.us.calls.cancel(open_id)):
        began = time.monotonic()
        with pytest.raises(Unreachable):
            await write
        assert time.monotonic() - began < AT_ONCE_SECONDS
    own = await two.us.calls.send_task("written at home meanwhile")
    assert own.status.state is TaskState.COMPLETED
    (state,) = two.us.log.mirrors
    assert not state.reachable
    before = state.lag_seconds
    assert before > 0
    await eventually(lambda: two.us.log.mirrors[0].lag_seconds > before + 0.5)
    staleness = (await two.us.get(ended.id)).staleness_seconds
    assert staleness is not None
    assert staleness > before
    assert metric("a2a_mirror_lag_seconds") > before
    assert metric("a2a_mirror_active_seconds") > 0.5

    origin, mirror = await two.eu.records(ref(open_id)), await two.us.records(ref(open_id))
    assert len(mirror) < len(origin)
    assert mirror == origin[: len(mirror)]

    await two.heal()
    gate.put_nowait("")
    rest = [update async for update in abroad]
    assert b"said during" in b"".join(update.line for update in rest)
    assert b"TASK_STATE_COMPLETED" in rest[-1].line
    await two.even()
    assert await two.us.records(ref(open_id)) == await two.eu.records(ref(open_id))
    assert await two.eu.records(ref(own.id)) == await two.us.records(ref(own.id))
    with pytest.raises(TaskNotCancelableError):  # the way back is open again
        await two.us.calls.cancel(open_id)
    await stream.aclose()


def metric(name: str) -> float:
    """What a scrape shows for the mirror of eu."""
    lines = exposed("")[0].decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f'{name}{{log="{EU}"}}')))


async def _beginning(two: TwoRegions, task_id: str) -> str:
    task = ref(task_id)
    first = (await two.us.records(task))[0]
    return text(task, Cursor(two.us.log.incarnation(task), first.position, first.header.revision))


async def test_a_link_that_swallows_everything_hangs_nobody(two: TwoRegions) -> None:
    task = await two.eu.calls.send_task("ask")
    await two.even()
    two.link.hold()
    await eventually(lambda: not two.us.log.mirrors[0].reachable, timeout_seconds=20)
    async with asyncio.timeout(AT_ONCE_SECONDS):
        assert (await two.us.calls.get(task.id)).status.state is TaskState.INPUT_REQUIRED

    async def refused_at_once() -> bool:
        began = time.monotonic()
        try:
            await two.us.send("more", task_id=task.id)
        except Unreachable:
            return time.monotonic() - began < 1.0
        except LogError:
            return False
        raise AssertionError("nothing gets through")

    await eventually(refused_at_once, timeout_seconds=60)
    await two.heal()
    await two.even()
    await two.us.send("more", task_id=task.id)
    assert "more" in [message.parts[0].text for message in (await two.us.calls.get(task.id)).history]


async def test_a_cursor_from_a_region_that_is_ahead_is_waited_for_or_refused_honestly(two: TwoRegions) -> None:
    gate = two.gate("ahead")
    async with aclosing(shown(await two.eu.stream("ahead"))) as stream:
        (begun,) = await take(stream, 1)
        task_id = msgspec.json.decode(begun.line)["task"]["id"]
        await _is_there_in_us(two, task_id)
        await two.cut()
        gate.put_nowait("only here")
        while b"only here" not in (newest := (await take(stream, 1))[0]).line:
            pass
        with pytest.raises(Unavailable):
            await two.us.subscribe(task_id, newest.cursor)
        await two.heal()
        await two.even()
        gate.put_nowait("")
        rest = [update async for update in shown(await two.us.subscribe(task_id, newest.cursor))]
        assert b"TASK_STATE_COMPLETED" in rest[-1].line
        assert rest == await two.eu.replay(task_id, newest.cursor)


async def test_a_key_makes_one_task_whichever_region_it_is_sent_in(two: TwoRegions) -> None:
    logs = set()
    for number in range(8):
        sent = await asyncio.gather(
            *(g.send("keyed", key=f"key-{number}", message_id="m") for g in two.gateways.values())
        )
        assert len({task.id for task in sent}) == 1
        logs.add(sent[0].id.split("-")[1])
    assert logs == {EU, US}  # so keys of both kinds were tried


async def test_a_tenant_s_tasks_go_to_its_home_from_everywhere(two: TwoRegions) -> None:
    for region in (EU, US):
        gateway = await two.gateway(region, tenant_homes=f"acme={EU}")
        task = await gateway.send("hello", tenant="acme")
        assert parse_task_id(task.id)[0] == EU  # type: ignore[index]
        keyed = await gateway.send("hello", tenant="acme", key=f"key-{region}")
        assert parse_task_id(keyed.id)[0] == EU  # type: ignore[index]


async def test_a_webhook_s_secret_given_in_one_region_is_opened_where_the_task_lives(two: TwoRegions) -> None:
    task = await two.eu.calls.send_task("hello")
    secrets = Secrets(token="hidden")
    sealed = await Seals(two.us.log).seal(secrets, task.id, "config")
    worker_side = Seals(two.eu.log)
    assert await worker_side.open(sealed, task.id, "config") == secrets


async def test_a_task_that_was_just_made_is_there_in_the_other_region_too(two: TwoRegions) -> None:
    two.link.delay(0.3)
    task = await two.eu.send("ask")
    assert (await two.us.calls.get(task.id)).id == task.id
    two.link.heal()
    with pytest.raises(TaskNotFoundError):
        await two.us.calls.get(task.id[:-4] + "none")
    await two.cut()
    with pytest.raises(Unreachable):  # whether it is there is not known here
        await two.us.calls.get(task.id[:-4] + "none")


async def test_agents_of_both_regions_are_known_in_both(two: TwoRegions) -> None:
    await two.even()

    async def known() -> bool:
        return all(["speaker" in await g.log.agents() for g in two.gateways.values()])

    await eventually(known)
    for worker in list(two.workers):
        if "-us-" in worker:
            await two.workers.pop(worker).vanish()
    names = Names(two.namespace)
    await two.us.connection.api(f"STREAM.PURGE.{names.registry_stream(US)}")
    await eventually(two.us.log.agents)  # from the mirror of the other one's registry
    assert (await two.us.log.agents()).keys() == {"speaker"}


async def test_no_record_is_shown_twice_by_a_region_that_follows_another(two: TwoRegions) -> None:
    """Interest crosses the leaf: live copies of the origin would come beside those of the mirror."""
    got: list[tuple[str, str]] = []

    def heard(subject: str, _reply: str, headers: bytes, _payload: bytes) -> None:
        got.append((subject, header_value(headers, b"Nats-Sequence")))

    view = two.us.log._foreign[EU].mirror.view(0)  # what gateways of us listen to
    assert view is not None
    await two.us.connection.subscribe(f"{two.namespace}.{view.live}.{EU}.>", heard)
    await two.us.connection.request("$JS.API.INFO")  # the server has heard of the interest
    tasks = [ref((await two.eu.calls.send_task(f"hello {n}")).id) for n in range(3)]
    await two.even()
    records = [record for task in tasks for record in await two.us.records(task)]
    # What comes after a marker on the same connection would have come before it, had it come twice.
    marker = ref((await two.eu.calls.send_task("marker")).id)
    await eventually(lambda: any(marker.task_id in subject for subject, _ in got))
    of_tasks = [place for place in got if marker.task_id not in place[0]]
    assert len(of_tasks) == len(records)
    assert len(set(of_tasks)) == len(of_tasks)

"""Accounts of NATS share nothing: whatever an insider can see or change, an outsider cannot.

Every test is run by both, with all that an account allows: the insider's run shows that the attempt is a real one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.js.errors import APIError, NotFoundError

from a2a_events.testing import eventually
from tests.integration.accounts import DOMAIN, Shared, accounts

pytestmark = pytest.mark.integration

API = "$JS.API"
CANARY = b"what only acme may know"
VAULT = "VAULT_of_acme"
ACCOUNT = "TENANT_acme"
SECRETS = (CANARY, base64.b64encode(CANARY), VAULT.encode(), ACCOUNT.encode())
INSIDER, OUTSIDER = "acme", "globex"
SECONDS = 5.0
"""How long an answer may take."""
SILENCE_SECONDS = 2.0
"""How long to wait for what should not come."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with accounts(tmp_path_factory.mktemp("accounts"), more_streams=10) as made:
        asyncio.run(made.server.start())
        yield made
        asyncio.run(made.server.stop())


@contextlib.asynccontextmanager
async def signed_in(shared: Shared, tenant: str) -> AsyncIterator[Client]:
    client = await nats.connect(shared.server.url, nkeys_seed=shared.settings(tenant).nats_credentials)
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def acme(shared: Shared) -> AsyncIterator[Client]:
    """What there is to be seen and to be broken, made anew for each test."""
    async with signed_in(shared, INSIDER) as client:
        await emptied(client)
        await made(client, VAULT, ["vault.>"], allow_direct=True, allow_rollup_hdrs=True)
        await made(client, "CLOCK", ["clock.>"], allow_msg_schedules=True)
        await client.jetstream().publish("vault.a", CANARY)
        await consumer(client, "taker")
        objects = await client.jetstream().create_object_store("SAFE")
        await objects.put("plan", CANARY)
        box = await client.jetstream().create_key_value(bucket="BOX")
        await box.put("key", CANARY)
        yield client


@pytest.fixture
async def globex(shared: Shared) -> AsyncIterator[Client]:
    async with signed_in(shared, OUTSIDER) as client:
        await emptied(client)
        await made(client, "CLOCK", ["clock.>"], allow_msg_schedules=True)
        yield client


async def emptied(client: Client) -> None:
    for name in (await call(client, "STREAM.NAMES"))["streams"] or []:
        await call(client, f"STREAM.DELETE.{name}")


async def made(client: Client, name: str, subjects: list[str], **config: Any) -> Any:
    answer = await call(client, f"STREAM.CREATE.{name}", {"name": name, "subjects": subjects, **config})
    assert "error" not in answer, answer


async def consumer(client: Client, name: str) -> Any:
    config = {"durable_name": name, "ack_policy": "explicit"}
    return await call(client, f"CONSUMER.DURABLE.CREATE.{VAULT}.{name}", {"stream_name": VAULT, "config": config})


async def call(client: Client, verb: str, body: object = None) -> Any:
    return json.loads(await asked(client, f"{API}.{verb}", body) or "null")


async def asked(
    client: Client,
    subject: str,
    body: object = None,
    headers: dict[str, str] | None = None,
    *,
    timeout: float = SECONDS,
) -> bytes:
    """The answer, with its headers; empty where nobody answers."""
    payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        # A subscription for each request: what a consumer delivers has the subject it was stored under.
        answer = await client.request(subject, payload, timeout=timeout, old_style=True, headers=headers)
    except (NoRespondersError, TimeoutError):
        return b""
    return answer.data + json.dumps(dict(answer.headers or {})).encode()[: 10_000 if answer.headers else 0]


# What can be seen. Each gives all that was learned.


def question(subject: str, body: object = None) -> Callable[[Client, Client], Awaitable[bytes]]:
    async def ask(client: Client, _: Client) -> bytes:
        return await asked(client, subject, body)

    return ask


async def by_a_new_consumer(client: Client, _: Client) -> bytes:
    answer = await consumer(client, "spy")
    heard = await asked(client, f"{API}.CONSUMER.MSG.NEXT.{VAULT}.spy", {"batch": 1, "expires": 10**9})
    return json.dumps(answer).encode() + heard


async def by_push(client: Client, _: Client) -> bytes:
    inbox = client.new_inbox()
    delivered = await client.subscribe(inbox)
    config = {"deliver_subject": inbox, "ack_policy": "none"}
    answer = await asked(client, f"{API}.CONSUMER.CREATE.{VAULT}", {"stream_name": VAULT, "config": config})
    if b"error" in answer:
        assert delivered.pending_msgs == 0
        return answer
    return (await delivered.next_msg(SECONDS)).data


async def by_a_copy(client: Client, origin: dict[str, Any]) -> bytes:
    """A mirror or a source of the vault, looked at when one of a stream of one's own has come."""
    await made(client, "OWN", ["own"], allow_direct=True)
    await client.jetstream().publish("own", b"mine")
    copied: dict[str, Any] = {"mirror": {"name": "OWN"}} if "mirror" in origin else {"sources": [{"name": "OWN"}]}
    answers = [
        await call(client, f"STREAM.CREATE.{name}", {"name": name, **copy, "allow_direct": True})
        for name, copy in (("COPY", origin), ("CONTROL", copied))
    ]
    assert not [answer["error"] for answer in answers if "error" in answer]

    async def count(name: str) -> int:
        return int((await call(client, f"STREAM.INFO.{name}"))["state"]["messages"])

    async def control() -> bool:
        return await count("CONTROL") == 1

    await eventually(control)
    with contextlib.suppress(TimeoutError):  # the insider's comes a moment before or after

        async def copy() -> bool:
            return await count("COPY") > 0

        await eventually(copy, timeout_seconds=SILENCE_SECONDS)
    return await asked(client, f"{API}.STREAM.MSG.GET.COPY", {"seq": 1})


async def by_a_mirror(client: Client, _: Client) -> bytes:
    return await by_a_copy(client, {"mirror": {"name": VAULT}})


async def by_a_source(client: Client, _: Client) -> bytes:
    return await by_a_copy(client, {"sources": [{"name": VAULT}]})


async def by_the_object_store(client: Client, _: Client) -> bytes:
    try:
        return (await (await client.jetstream().object_store("SAFE")).get("plan")).data or b""
    except NotFoundError:
        return b""


async def by_the_key_value_store(client: Client, _: Client) -> bytes:
    try:
        return (await (await client.jetstream().key_value("BOX")).get("key")).value or b""
    except NotFoundError:
        return b""


def listening(*subjects: str) -> Callable[[Client, Client], Awaitable[bytes]]:
    async def listen(client: Client, acme: Client) -> bytes:
        heard: list[bytes] = []
        ended = asyncio.Event()

        async def on(message: Msg) -> None:
            if message.subject == "end":
                ended.set()
            heard.append(message.subject.encode() + message.data)

        for subject in (*subjects, "end"):
            await client.subscribe(subject, cb=on)
        await client.flush()
        await busy(acme)
        await client.publish("end")  # comes after everything that came before
        await asyncio.wait_for(ended.wait(), 10)
        return b"\n".join(heard)

    return listen


async def busy(acme: Client) -> None:
    """Work that can be overheard: a message, an append, an answer to a request, an advisory."""
    await acme.publish("chat", CANARY)
    await acme.jetstream().publish("vault.b", CANARY)
    await asked(acme, f"{API}.STREAM.MSG.GET.{VAULT}", {"seq": 1})
    await consumer(acme, "watched")
    await acme.flush()


async def by_a_stream_of_the_same_subjects(client: Client, acme: Client) -> bytes:
    await made(client, "CATCH", ["chat"])
    await busy(acme)
    return await asked(client, f"{API}.STREAM.MSG.GET.CATCH", {"seq": 1})


SEEN: dict[str, Callable[[Client, Client], Awaitable[bytes]]] = {
    "MSG.GET by sequence": question(f"{API}.STREAM.MSG.GET.{VAULT}", {"seq": 1}),
    "MSG.GET by subject": question(f"{API}.STREAM.MSG.GET.{VAULT}", {"last_by_subj": "vault.a"}),
    "MSG.GET by wildcard": question(f"{API}.STREAM.MSG.GET.{VAULT}", {"seq": 1, "next_by_subj": "vault.*"}),
    "DIRECT.GET by sequence": question(f"{API}.DIRECT.GET.{VAULT}", {"seq": 1}),
    "DIRECT.GET by subject": question(f"{API}.DIRECT.GET.{VAULT}.vault.a"),
    "DIRECT.GET in a batch": question(f"{API}.DIRECT.GET.{VAULT}", {"multi_last": ["vault.>"], "batch": 5}),
    "STREAM.NAMES": question(f"{API}.STREAM.NAMES"),
    "STREAM.NAMES of a subject": question(f"{API}.STREAM.NAMES", {"subject": "vault.a"}),
    "STREAM.LIST": question(f"{API}.STREAM.LIST"),
    "STREAM.INFO": question(f"{API}.STREAM.INFO.{VAULT}", {"subjects_filter": ">"}),
    "STREAM.SNAPSHOT": question(f"{API}.STREAM.SNAPSHOT.{VAULT}", {"deliver_subject": "_INBOX.snapshot"}),
    "CONSUMER.INFO": question(f"{API}.CONSUMER.INFO.{VAULT}.taker"),
    "CONSUMER.LIST": question(f"{API}.CONSUMER.LIST.{VAULT}"),
    "CONSUMER.MSG.NEXT": question(f"{API}.CONSUMER.MSG.NEXT.{VAULT}.taker", {"batch": 1, "no_wait": True}),
    "a new consumer": by_a_new_consumer,
    "a push consumer": by_push,
    "a mirror": by_a_mirror,
    "the API of the domain": question(f"$JS.{DOMAIN}.API.STREAM.MSG.GET.{VAULT}", {"seq": 1}),
    "a source": by_a_source,
    "the object store": by_the_object_store,
    "an object's stream": question(f"{API}.STREAM.MSG.GET.OBJ_SAFE", {"seq": 1}),
    "the key-value store": by_the_key_value_store,
    "a key's stream": question(f"{API}.STREAM.MSG.GET.KV_BOX", {"last_by_subj": "$KV.BOX.key"}),
    "listening to everything": listening(">"),
    "listening to inboxes": listening("_INBOX.>"),
    "listening to advisories": listening("$JS.EVENT.>"),
    "listening to the API": listening("$JS.API.>"),
    "a stream of the same subjects": by_a_stream_of_the_same_subjects,
    "who one is": question("$SYS.REQ.USER.INFO"),
}


@pytest.mark.parametrize("attempt", SEEN)
async def test_what_an_insider_sees_an_outsider_does_not(acme: Client, globex: Client, attempt: str) -> None:
    assert leaked(await SEEN[attempt](acme, acme)), "this attempt shows nothing to anybody"
    for name in ("OWN", "COPY", "CONTROL", "CATCH"):
        await call(acme, f"STREAM.DELETE.{name}")
    assert not leaked(await SEEN[attempt](globex, acme))


def leaked(learned: bytes) -> list[bytes]:
    return [secret for secret in SECRETS if secret in learned]


SYSTEM = [
    *(f"$SYS.REQ.SERVER.PING{what}" for what in ("", ".JSZ", ".ACCOUNTZ", ".CONNZ", ".SUBSZ", ".VARZ")),
    *(f"$SYS.REQ.ACCOUNT.{ACCOUNT}.{what}" for what in ("INFO", "JSZ", "CONNZ", "SUBSZ", "STATZ", "CONNS")),
    *(f"$SYS.REQ.ACCOUNT.PING.{what}" for what in ("JSZ", "CONNZ", "SUBSZ", "STATZ")),
    f"{API}.ACCOUNT.PURGE.{ACCOUNT}",
    f"{API}.META.LEADER.STEPDOWN",
]


@pytest.mark.parametrize("subject", SYSTEM)
async def test_the_server_tells_an_account_nothing_of_another(acme: Client, globex: Client, subject: str) -> None:
    before = await state(acme)
    everything = {"account": ACCOUNT, "acc": ACCOUNT, "accounts": True, "streams": True, "consumer": True, "auth": True}
    assert not leaked(await asked(globex, subject, everything, timeout=SILENCE_SECONDS))
    assert await state(acme) == before


async def test_the_server_s_own_events_are_heard_by_nobody(shared: Shared, acme: Client, globex: Client) -> None:
    heard: list[str] = []

    async def on(message: Msg) -> None:
        heard.append(message.subject)

    await globex.subscribe("$SYS.>", cb=on)
    await globex.flush()
    async with signed_in(shared, INSIDER):
        pass  # that somebody of acme signs in and out is an event
    await globex.flush()
    assert not heard


# What can be done. Each is over when it has had its effect, if it has any.


def act(subject: str, body: object = None, headers: dict[str, str] | None = None) -> Callable[[Client], Awaitable[Any]]:
    async def do(client: Client) -> bytes:
        return await asked(client, subject, body, headers)

    return do


async def settle(client: Client) -> None:
    """Say that a delivery of somebody else's is done, as its subject can be guessed."""
    await client.publish(f"$JS.ACK.{VAULT}.taker.1.1.1.1795233000000000000.0", b"+TERM")
    await client.flush()


async def fire(client: Client) -> None:
    """A schedule whose target is a subject of the other account as well."""
    headers = {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": "clock.fired"}
    await client.jetstream().publish("clock.set", b"tick", headers=headers)

    async def fired() -> bool:
        found = await call(client, "STREAM.MSG.GET.CLOCK", {"last_by_subj": "clock.fired"})
        return "error" not in found

    await eventually(fired, timeout_seconds=20)


async def overwrite(client: Client) -> None:
    with contextlib.suppress(NotFoundError, APIError):
        await (await client.jetstream().key_value("BOX")).put("key", b"other")


async def lose(client: Client) -> None:
    with contextlib.suppress(NotFoundError, APIError):
        await (await client.jetstream().object_store("SAFE")).delete("plan")


async def pause(client: Client) -> None:
    await call(client, f"CONSUMER.PAUSE.{VAULT}.taker", {"pause_until": "2099-01-01T00:00:00Z"})


DONE: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "append": act("vault.a", b"forged"),
    "roll up": act("vault.a", b"forged", {"Nats-Rollup": "all"}),
    "purge": act(f"{API}.STREAM.PURGE.{VAULT}"),
    "delete a message": act(f"{API}.STREAM.MSG.DELETE.{VAULT}", {"seq": 1}),
    "delete the stream": act(f"{API}.STREAM.DELETE.{VAULT}"),
    "update the stream": act(
        f"{API}.STREAM.UPDATE.{VAULT}",
        {"name": VAULT, "subjects": ["other.>"], "allow_direct": True, "allow_rollup_hdrs": True},
    ),
    "delete a consumer": act(f"{API}.CONSUMER.DELETE.{VAULT}.taker"),
    "pause a consumer": pause,
    "take a delivery": act(f"{API}.CONSUMER.MSG.NEXT.{VAULT}.taker", {"batch": 1, "no_wait": True}),
    "settle a delivery": settle,
    "schedule": fire,
    "overwrite a key": overwrite,
    "delete an object": lose,
}


async def state(acme: Client) -> Any:
    """All that there is in the account, but for the clock."""
    found: dict[str, Any] = {}
    for name in sorted((await call(acme, "STREAM.NAMES"))["streams"] or []):
        info = await call(acme, f"STREAM.INFO.{name}")
        consumers = (await call(acme, f"CONSUMER.LIST.{name}"))["consumers"]
        progress = ("name", "paused", "num_ack_pending", "num_pending", "delivered", "ack_floor")
        found[name] = (info["config"], info["state"], [{key: one.get(key) for key in progress} for one in consumers])
    return found


@pytest.mark.parametrize("harm", DONE)
async def test_what_an_insider_can_do_an_outsider_cannot(acme: Client, globex: Client, harm: str) -> None:
    taken = await asked(acme, f"{API}.CONSUMER.MSG.NEXT.{VAULT}.taker", {"batch": 1, "no_wait": True})
    assert taken.startswith(CANARY)
    await acme.jetstream().publish("vault.c", b"waits")
    before = await state(acme)
    await DONE[harm](globex)
    assert await state(acme) == before
    await DONE[harm](acme)

    async def changed() -> bool:
        return bool(await state(acme) != before)

    await eventually(changed, what="a change by the insider: this attempt does nothing to anybody")


async def test_no_snapshot_of_one_account_overwrites_a_stream_of_another(acme: Client, globex: Client) -> None:
    before = await state(acme)
    kept = await call(acme, f"STREAM.INFO.{VAULT}")
    answer = await call(globex, f"STREAM.RESTORE.{VAULT}", {"config": kept["config"], "state": kept["state"]})
    assert "deliver_subject" in answer, answer  # it would be a stream of its own
    assert await state(acme) == before

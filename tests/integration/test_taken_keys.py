"""Somebody may have a service's key of NATS: another is put in its place, and whoever has the old one is signed out."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from a2a_events.cli import nats_accounts, nats_permissions
from a2a_events.log.jetstream import Names
from a2a_events.log.jetstream.accounts import Limits
from a2a_events.log.jetstream.permissions import permissions
from tests.integration.guarded import serving

pytestmark = pytest.mark.integration

NAMES = Names("a2a")
ANSWER_SECONDS = 20.0
PONG = b"PONG\r\n"


def printed(way: str, keys: Path, gateway: str) -> str:
    """What the command prints for these two services; gateway: the name of the key of that one."""
    made = {role: permissions(role, NAMES, shards=1) for role in ("gateway", "worker")}
    public = {
        role: nats_accounts._public(keys / f"{name}.nk") for role, name in (("gateway", gateway), ("worker", "w"))
    }
    if way == "nats-permissions":
        return nats_permissions._configuration(made, public, NAMES.namespace)
    bounds = Limits(storage_bytes=1 << 20, streams=4, connections=10)
    return nats_accounts._configuration(made, {"acme": public}, bounds, NAMES.namespace)


def seed(keys: Path, name: str) -> bytes:
    return (keys / f"{name}.nk").read_bytes()


class Holder:
    """Who signs in with a key, with no library that would do so again by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def sign_in(self, seed: bytes) -> bytes:
        nkeys: Any = import_module("nkeys")  # ships no types
        key = nkeys.from_seed(bytearray(seed))
        info = json.loads((await self._reader.readline()).removeprefix(b"INFO "))
        signed = base64.urlsafe_b64encode(key.sign(info["nonce"].encode())).rstrip(b"=").decode()
        connect = {"nkey": key.public_key.decode(), "sig": signed, "verbose": False, "pedantic": False}
        self._writer.write(b"CONNECT %b\r\n" % json.dumps(connect).encode())
        return await self.ping()

    async def ping(self) -> bytes:
        self._writer.write(b"PING\r\n")
        return await self._reader.readline()

    async def end(self) -> None:
        """Returns when the server has ended the connection."""
        with suppress(ConnectionError):
            await self._reader.read()


@asynccontextmanager
async def held(address: str) -> AsyncIterator[Holder]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Holder(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("way", ["nats-permissions", "nats-accounts"])
async def test_who_has_a_key_that_was_taken_away_is_signed_out_at_once(tmp_path: Path, way: str) -> None:
    keys = tmp_path / "keys"
    async with serving(tmp_path, printed(way, keys, "old")) as server, asyncio.timeout(ANSWER_SECONDS):
        async with held(server.address) as thief, held(server.address) as worker:
            assert await thief.sign_in(seed(keys, "old")) == PONG
            assert await worker.sign_in(seed(keys, "w")) == PONG
            server.reload(printed(way, keys, "new"))
            await thief.end()
            assert await worker.ping() == PONG, "others do not notice"
        async with held(server.address) as thief, held(server.address) as service:
            assert b"-ERR 'Authorization Violation'" in await thief.sign_in(seed(keys, "old"))
            assert await service.sign_in(seed(keys, "new")) == PONG

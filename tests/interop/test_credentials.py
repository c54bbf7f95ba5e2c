"""Clients that show who they are: the official one by what the card asks for, ours, and the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from a2a.client import ClientCallContext, ClientConfig, ClientFactory
from a2a.client.auth import AuthInterceptor, CredentialService
from a2a.types import GetTaskRequest
from a2a.utils.errors import TaskNotFoundError as OfficialNotFound

from a2a_events.client import Client, api_key, bearer
from a2a_events.errors import PermissionDeniedError, TaskNotFoundError, UnauthenticatedError
from a2a_events.model import Task
from tests.bad_input.test_identity import Guarded, guarding
from tests.cli.commands import Command
from tests.interop.test_official_client import ALL, saying, the_task
from tests.interop.wire import BINDINGS

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    async with guarding(nats_url, tmp_path_factory.mktemp("guarded")) as made:
        yield made


class Store(CredentialService):
    """What the official client finds for a scheme of the card."""

    def __init__(self, **credentials: str) -> None:
        self._credentials = credentials
        self.asked: list[str] = []

    async def get_credentials(self, security_scheme_name: str, context: ClientCallContext | None) -> str | None:
        self.asked.append(security_scheme_name)
        return self._credentials.get(security_scheme_name)


async def official(guarded: Guarded, http: httpx.AsyncClient, binding: str, store: Store) -> Any:
    config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], streaming=False)
    return await ClientFactory(config).create_from_url(guarded.settings.base_url, interceptors=[AuthInterceptor(store)])


@pytest.mark.parametrize("scheme", ["oidc", "apiKey"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_the_official_client_shows_what_the_card_asks_for(guarded: Guarded, binding: str, scheme: str) -> None:
    held = {"oidc": guarded.issuer.token("ci"), "apiKey": guarded.api_key}[scheme]
    async with httpx.AsyncClient(timeout=10) as http:
        store = Store(**{scheme: held})
        client = await official(guarded, http, binding, store)
        task = await the_task(client, saying("hello"))
        assert (await client.get_task(GetTaskRequest(id=task.id))).id == task.id
        assert scheme in store.asked
        # The same subject and tenant, whoever vouches for them; another one sees nothing.
        other = await official(guarded, http, binding, Store(oidc=guarded.issuer.token("bob")))
        with pytest.raises(OfficialNotFound):
            await other.get_task(GetTaskRequest(id=task.id))


@pytest.mark.parametrize("binding", BINDINGS)
async def test_the_official_client_is_not_let_in_without(guarded: Guarded, binding: str) -> None:
    async with httpx.AsyncClient(timeout=10) as http:
        client = await official(guarded, http, binding, Store())
        with pytest.raises(Exception, match="401"):
            await the_task(client, saying("hello"))


@pytest.mark.parametrize("binding", ALL)
async def test_our_client_shows_a_token_or_a_key(guarded: Guarded, binding: Any) -> None:
    url = guarded.settings.base_url
    async with Client(url, binding=binding, credentials=bearer(guarded.issuer.token("ci"))) as client:
        task = await client.send("hello")
        assert isinstance(task, Task)
    async with Client(url, binding=binding, credentials=api_key(guarded.api_key)) as client:
        assert (await client.get(task.id)).id == task.id
    async with Client(url, binding=binding, credentials=bearer(guarded.issuer.token("bob"))) as client:
        with pytest.raises(TaskNotFoundError):
            await client.get(task.id)
    async with Client(url, binding=binding, credentials=bearer(guarded.issuer.token("ci", scope="a2a:read"))) as client:
        with pytest.raises(PermissionDeniedError):
            await client.send("hello")
    async with Client(url, binding=binding, credentials=bearer("nonsense")) as client:
        with pytest.raises(UnauthenticatedError) as refused:
            await client.send("hello")
        assert "nonsense" not in str(refused.value)
    async with Client(url, binding=binding) as client:
        with pytest.raises(UnauthenticatedError):
            await client.send("hello")


@pytest.mark.parametrize("binding", ALL)
async def test_our_client_asks_for_a_token_once_and_anew_when_it_is_refused(guarded: Guarded, binding: Any) -> None:
    given: list[str] = []

    def give() -> str:
        given.append(guarded.issuer.token("ci") if given else guarded.issuer.token("ci", exp=1))
        return given[-1]

    async with Client(guarded.settings.base_url, binding=binding, credentials=bearer(give)) as client:
        answers = await asyncio.gather(*(client.send(f"hello {number}") for number in range(5)))
        assert all(isinstance(task, Task) for task in answers)
        assert len(given) == 2, "one that had expired, and one for all who had shown it"
        await client.send("again")
        assert len(given) == 2
        given.clear()


@pytest.mark.timeout(200)  # four processes one after the other; only a bound against hanging on a busy machine
async def test_the_command_line_shows_a_key_from_a_file_or_the_environment(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "ci.key").write_text(guarded.api_key + "\n")
    url = guarded.settings.base_url

    async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        command = Command(*arguments, "--url", url, folder=tmp_path, environment=environment or None)
        try:
            return await command.end(), command.out, command.err
        finally:
            command.close()

    code, out, err = await run("send", "hello", "--api-key", f"@{tmp_path}/ci.key")
    assert code == 0, err
    task_id = json.loads(out.splitlines()[0])["task"]["id"]
    code, _, err = await run("watch", task_id, A2A_TOKEN=guarded.issuer.token("ci"))
    assert code == 0, err
    code, _, err = await run("send", "hello")
    assert code == 1, err
    assert "--api-key" in err
    code, _, err = await run("send", "hello", "--api-key", guarded.api_key, "--token", "x")
    assert code == 2, err

"""The contract tester ``a2a-proof``, which nobody here wrote, against a running gateway.

It discovers the agent, and checks states, texts and identities of whole conversations over the transport it is given.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.interop.wire import BINDINGS

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

CONTRACTS = Path(__file__).with_name("proof")
RUN_SECONDS = 150
"""Long enough for the tester's own patience to end, so that it says with what."""


async def proof(command: str, contract: str, url: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of ``a2a-proof``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from a2a_proof.cli import main; main()"),
        *(command, str(CONTRACTS / contract), *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PROOF_AGENT_URL": url},
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


def findings(document: dict[str, Any]) -> list[str]:
    """Everything that the tester has to say against the agent."""
    found = list((document.get("card") or {}).get("failures", []))
    for scenario in document["scenarios"]:
        for trial in scenario["trials"]:
            found += [f"{scenario['name']}: {trial['error']}"] if trial.get("error") else []
            found += [f"{scenario['name']}: {text}" for turn in trial["turns"] for text in turn["failures"]]
    return found


@pytest.mark.parametrize("transport", BINDINGS)
async def test_the_lifecycle_contract_holds(url: str, transport: str) -> None:
    code, output = await proof(
        "run", "lifecycle.yaml", url, "--format", "json", "--transport", transport, "--jobs", "8"
    )
    assert code in {0, 1}, output
    document = msgspec.json.decode(output)
    assert [] == findings(document)
    assert (0, True) == (code, document["passed"])
    assert 11 == len(document["scenarios"])


@pytest.mark.parametrize("transport", BINDINGS)
async def test_the_contract_of_webhooks_holds(pushing: str, transport: str) -> None:
    code, output = await proof("run", "push.yaml", pushing, "--format", "json", "--transport", transport)
    assert code in {0, 1}, output
    assert [] == findings(msgspec.json.decode(output))
    assert 0 == code


async def test_a_contract_that_does_not_hold_is_found_out(url: str) -> None:
    """That the tester looks at all: it is asked for something that the agent does not do."""
    code, output = await proof("run", "broken.yaml", url, "--format", "json")
    assert 1 == code, output
    assert [
        "another text: response text is not equal to the expected value",
        "another state: agent ended in 'failed' state",
        "another state: expected state 'completed', got 'failed'",
    ] == findings(msgspec.json.decode(output))

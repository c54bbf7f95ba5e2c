"""``up``: everything on this machine."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from a2a_events.cli import flags
from a2a_events.cli.outcome import program

if TYPE_CHECKING:
    from a2a_events.services.up import Ready
    from a2a_events.settings import Settings

DEMO_AGENT: Final = "a2a_events.agents:scripted"


@click.command(short_help="Start everything here: NATS, gateway, worker, notifier.")
@flags.agents
@flags.settings("host", "port", "grpc_port")
@click.option("--gateways", type=click.IntRange(1, 100), default=1, show_default=True, help="On ports PORT, PORT+1, …")
@click.option("--workers", type=click.IntRange(1, 100), default=1, show_default=True, help="Each serves all agents.")
@click.option("--in-process", is_flag=True, help="No child processes but nats-server: for debuggers.")
@flags.settings(
    "store",
    "sync",
    *flags.CONNECTION,
    "public_url",
    "public_grpc",
    "auth",
    "allow_anonymous",
    "auth_api_keys",
    "default_agent",
    "card",
    "extended_card",
    "card_keys",
    "index",
    "hybrid_card",
    "a2a_1_1",
    "content_bytes",
    "request_bytes",
    "queue_limit",
    "debug_api",
    "timeline_host",
    "timeline_port",
    *flags.PUSH,
    "ack_wait_seconds",
    "drain_seconds",
    "blocked_loop_seconds",
    *flags.LOGGING,
    store=".a2a-events/nats in this folder",
    nats="a server of our own",
    default_agent="the first --agent",
)
def up(gateways: int, workers: int, in_process: bool, agent: tuple[str, ...], **given: Any) -> None:  # noqa: FBT001 -- click's way
    """Start everything on this machine, until Ctrl-C: a NATS server, a gateway, a worker, a notifier, a timeline page.

    Without --agent it serves the demo agent, which repeats what it is told, or does what a --script says. Tasks are
    kept in .a2a-events in this folder (--store for another); --nats uses a server that is already there instead.

    Gateways, workers and the notifier are processes of their own, started again when they crash. The NATS server takes
    port 4222 if it is free, otherwise another one that is printed. Ctrl-C stops the NATS server last; a second Ctrl-C
    does not wait for turns that still run.

    Webhooks at private addresses, this machine's own among them, are called only with --push-allow-private.

    \b
    Examples:
      a2a-events up
      a2a-events up --agent agents:greet --agent agents:translate --port 9000
      a2a-events up --gateways 2 --workers 4 --store /var/lib/my-agents
      a2a-events up --nats nats://broker:4222
    """
    from a2a_events.services import event_loop, logs
    from a2a_events.services.up import Plan, run
    from a2a_events.settings import PREFIX, load

    embedded = given["nats"] is None and f"{PREFIX}NATS" not in os.environ
    settings = load({**given, "agent": ",".join(agent) or None})
    if not settings.agent:
        settings = load({**given, "agent": DEMO_AGENT})
    logs.configure(settings.log_level, settings.log_format)
    broker = "nats-server" if embedded else settings.shown_nats
    print(f"Starting with {broker}, gateways: {gateways}, workers: {workers} …", flush=True)
    command = None if in_process else service_command
    work = run(
        Plan(settings=settings, gateways=gateways, workers=workers, embedded=embedded, command=command),
        partial(_announce, settings),
    )
    if in_process:
        event_loop.run(work)
    else:
        asyncio.run(work)
    print("Stopped.")


def service_command(role: str) -> list[str]:
    """The command of a service's process, which ends when we do."""
    return [sys.executable, "-m", "a2a_events.cli", role, "--until-eof"]


def _announce(settings: Settings, ready: Ready) -> None:
    from a2a_events.bindings.app import CARD_PATH

    me = program()
    first = ready.urls[0]
    usual = first == "http://127.0.0.1:8000" and len(ready.urls) == 1
    url = "" if usual else "".join(f" --url {url}" for url in ready.urls)
    nats = "" if ready.nats == "nats://127.0.0.1:4222" else f" --nats {ready.nats}"
    where = f"  (data in {ready.store})" if ready.store else ""
    made, shown, header = _credentials(settings)
    message = '{"message":{"messageId":"1","role":"ROLE_USER","parts":[{"text":"hello"}]}}'
    lines = [
        "",
        f"ready        {'  '.join(ready.urls)}",
        *(f"agent card   {url}{CARD_PATH}" for url in ready.urls),
        *([f"grpc         {'  '.join(ready.grpc)}"] if ready.grpc else []),
        f"agents       {', '.join(ready.agents)}",
        f"timelines    {ready.timeline}",
        f"nats         {ready.nats}{where}",
        *([f"a key        {me} {made}"] if made else []),
        f'try          {me} send{url}{shown} "hello"',
        f"then         {me} timeline{nats} TASK",
        f"or           curl -sN {first}/message:stream -H 'A2A-Version: 1.0'{header} \\",
        f"                  -H 'Content-Type: application/json' -d '{message}'",
        "stop         Ctrl-C",
        "",
    ]
    print("\n".join(lines), flush=True)


def _credentials(settings: Settings) -> tuple[str, str, str]:
    """How a key is made, and how `send` and curl show it; empty where callers need none of their own."""
    methods = settings.auth_methods
    if "api_keys" in methods:
        file = shlex.quote(settings.auth_api_keys)
        return (
            f"api-key new --file {file} --subject me > me.key",
            " --api-key @me.key",
            ' -H "X-API-Key: $(cat me.key)"',
        )
    if "jwt" in methods:
        return "", " --token @me.token", ' -H "Authorization: Bearer $(cat me.token)"'
    return "", "", ""

"""One service each, for who has an orchestrator: gateway, worker, notifier, timeline page, provisioner, sweep."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import click

from a2a_events.cli import flags

_SUPERVISED: Final = click.option(
    "--until-eof", is_flag=True, help="End when standard input ends: for supervisors that hold it open."
)


@click.command(short_help="Run one gateway: HTTP in front of the log.")
@flags.settings(
    "host",
    "port",
    "public_url",
    "grpc_port",
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
    *flags.PUSH,
    *flags.CONNECTION,
    "log",
    "instance",
    *flags.LOGGING,
)
@_SUPERVISED
def gateway(until_eof: bool, **given: Any) -> None:  # noqa: FBT001 -- click's way
    """Run one gateway until SIGTERM or Ctrl-C.

    A gateway translates A2A over HTTP (JSON-RPC and HTTP+JSON, with streams), and over gRPC where it is given a port
    for it, to the log and back. It holds nothing that another gateway would miss: run as many as you like behind any
    load balancer, and stop or kill them at any time. Streams that are cut go on at another one, from their cursors.

    \b
    Health: GET /livez (the process), GET /readyz (connected to NATS).

    \b
    Example:
      a2a-events provision --nats nats://broker:4222
      a2a-events gateway --nats nats://broker:4222 --host 0.0.0.0 --public-url https://agent.example
    """
    from a2a_events.services import gateway as service

    _run(service.run(_load(given)), until_eof=until_eof)


@click.command(short_help="Run one worker: it runs agents.")
@flags.agents
@flags.settings(
    "turns",
    "content_bytes",
    "ack_wait_seconds",
    "drain_seconds",
    "blocked_loop_seconds",
    *flags.CONNECTION,
    "log",
    "instance",
    *flags.LOGGING,
)
@_SUPERVISED
def worker(until_eof: bool, agent: tuple[str, ...], **given: Any) -> None:  # noqa: FBT001 -- click's way
    """Run one worker until SIGTERM or Ctrl-C.

    A worker takes turns from the log, runs the agent and appends what it says. It never talks to a gateway and needs
    no address: scale it with the work. When it is stopped, turns get --drain-seconds to end; the rest goes to other
    workers.

    \b
    An agent is an async function, in agents.py for example:
      async def greet(turn):
          await turn.artifact(f"Hello, {turn.text}!")

    \b
    Example:
      a2a-events worker --agent agents:greet --nats nats://broker:4222
    """
    from a2a_events.services import worker as service

    _run(service.run(_load({**given, "agent": ",".join(agent) or None})), until_eof=until_eof)


@click.command(short_help="Run one notifier: it calls webhooks.")
@flags.settings(
    "push_allow_private",
    "push_keys",
    "push_attempts",
    "push_pause_seconds",
    "ack_wait_seconds",
    *flags.CONNECTION,
    "log",
    "instance",
    *flags.LOGGING,
)
@_SUPERVISED
def notifier(until_eof: bool, **given: Any) -> None:  # noqa: FBT001 -- click's way
    """Run one notifier until SIGTERM or Ctrl-C.

    A notifier follows the log and posts every update of a task to the task's webhooks, in order and at least once. It
    needs no address. One is enough to lose nothing; more share the work and take over from each other.

    \b
    Example:
      a2a-events notifier --nats nats://broker:4222
    """
    from a2a_events.services import notifier as service

    _run(service.run(_load(given)), until_eof=until_eof)


@click.command(short_help="Serve the timeline page: what happened to every task.")
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show what `export` wrote into this file, without NATS; repeatable.",
)
@flags.settings("timeline_host", "timeline_port", *flags.CONNECTION, "log", "instance", *flags.LOGGING)
@_SUPERVISED
def timeline_page(until_eof: bool, bundles: tuple[Path, ...], **given: Any) -> None:  # noqa: FBT001 -- click's way
    """Serve a page that shows what happened to every task, until SIGTERM or Ctrl-C.

    It lists the tasks, draws who did what and when, and shows the task at any event and what that changed. It reads
    the log itself, so it works while no gateway and no worker is alive, and disturbs none. It can export a task and
    fork it.

    Whoever reaches it sees everything. So it listens on loopback; on any other address it needs a token, in
    A2A_EVENTS_TIMELINE_TOKEN, which browsers ask for as a password, with any user name.

    \b
    Examples:
      a2a-events timeline-page
      a2a-events timeline-page --nats nats://broker:4222 --timeline-port 9000
      a2a-events timeline-page --bundle failed.jsonl
    """
    from a2a_events.services import timeline as service

    _run(service.run(_load(given), bundles), until_eof=until_eof)


@click.command(short_help="Create or verify the streams and consumers that everything needs.")
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if there is something to change or to correct.")
@click.option(
    "--agent", "agents", multiple=True, metavar="NAME", help="Agent that needs consumers already; repeatable."
)
@flags.settings("shards", "replicas", "ack_wait_seconds", "push", *flags.CONNECTION, "log", *flags.LOGGING)
def provision(check: bool, agents: tuple[str, ...], **given: Any) -> int:  # noqa: FBT001 -- click's way
    """Create or verify the streams and consumers that everything else needs, and say what was done.

    Run it before the first gateway and worker, and again after each upgrade. What is missing is created. What another
    version of this software made otherwise is changed. What somebody else has changed is an error that names the
    stream, the setting, both values and what to do; then nothing at all is changed. Replicas, placement and limits of
    streams are yours: they are left as they are.

    Workers make the consumers of their agents themselves; here those of every agent that was ever announced are made
    or verified, and those of each --agent.

    \b
    Examples:
      a2a-events provision --nats nats://broker:4222
      a2a-events provision --nats nats://n1:4222,nats://n2:4222,nats://n3:4222 --replicas 3 --shards 1
      a2a-events provision --check
    """
    import asyncio

    from a2a_events.cli.outcome import Exit, say
    from a2a_events.services import provisioner
    from a2a_events.timeline.ids import is_name

    for name in agents:
        if not is_name(name):
            raise click.BadParameter(f"{name!r} is not the name of an agent", param_hint="--agent")
    if not check:
        settings = _load(given)
        for name, done in asyncio.run(provisioner.run(settings, agents)).items():
            print(f"{done:<9} {name}")
        if len(settings.domains) > 2:  # noqa: PLR2004 -- what a fail-over cares for by itself
            say(
                "note: with more than two regions a fail-over takes more than region-promote: all others must make "
                "their mirrors of the log anew before anybody in them writes to it (docs/regions.md)"
            )
        return Exit.OK
    found = asyncio.run(provisioner.check(_load(given), agents))
    for one in found:
        print(f"{one.state:<9} {one.name}" + (f": {', '.join(one.outdated)}" if one.outdated else ""))
    for drift in (drift for one in found for drift in one.drifts):
        say(f"error: {drift}")
    return Exit.OK if all(one.state == "verified" for one in found) else Exit.FAILED


@click.command(short_help="Remove what interrupted writers left, and ask after silent tasks.")
@flags.settings(*flags.CONNECTION, "log", *flags.LOGGING)
def sweep(**given: Any) -> None:
    """Remove what interrupted writers left in the object store, ask after silent tasks, and say how many they were.

    Messages and artifacts that are too large for a record are objects that a record refers to. The object is stored
    first, so a gateway or worker that is killed in between leaves one behind. Nobody sees it, but it takes space.
    Whatever is younger than an hour is left alone. Run it now and then, for example every night.

    A task that somebody should be acting on, and of which nothing was heard for A2A_EVENTS_SILENCE_SECONDS, is nudged:
    a worker looks after it. Workers do so by themselves unless that is switched off.

    \b
    Example:
      a2a-events sweep --nats nats://broker:4222
    """
    import asyncio

    from a2a_events.services import sweep as service

    removed, nudged = asyncio.run(service.run(_load(given)))
    print(f"removed {removed}, nudged {nudged}")


@click.command(short_help="Remove tasks that ended long ago.")
@click.option("--days", required=True, type=click.FloatRange(min=0, min_open=True), help="Age of a task's last event.")
@click.option(
    "--tombstone-days",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    show_default="they stay",
    help="Age of tombstones that are removed as well; over --days.",
)
@flags.settings(*flags.CONNECTION, "log", "instance", *flags.LOGGING)
def retain(days: float, tombstone_days: float | None, **given: Any) -> None:
    """Remove tasks that have ended and of which nothing was heard for --days, and say how many they were.

    Nobody sees such a task any more: GetTask and a subscription with an old cursor answer that there is none, and lists
    leave it out. Its events, snapshots, artifacts, webhooks and their secrets are gone. A tombstone stays, without
    anybody's words, so that a late retry of the request that made the task does not make it again. A task that has not
    ended is never removed. Interrupted, it goes on when it is run again. Run it every night.

    \b
    Examples:
      a2a-events retain --days 30 --nats nats://broker:4222
      a2a-events retain --days 30 --tombstone-days 90
    """
    import asyncio

    from a2a_events.services import retention

    if tombstone_days is not None and tombstone_days <= days:
        raise click.BadParameter("must be over --days", param_hint="--tombstone-days")
    done = asyncio.run(retention.run(_load(given), days, tombstone_days))
    left = f", {done.unreadable} unreadable" if done.unreadable else ""
    print(f"removed {done.tasks}, tombstones {done.tombstones}{left}")


def _load(given: dict[str, Any]) -> Any:
    from a2a_events.services import logs
    from a2a_events.settings import load

    settings = load(given)
    logs.configure(settings.log_level, settings.log_format, click.get_current_context().info_name or "")
    return settings


def _run(service: Coroutine[Any, Any, None], *, until_eof: bool) -> None:
    from a2a_events.services import event_loop
    from a2a_events.services.up import end_with_parent

    if until_eof:
        end_with_parent()
    event_loop.run(service)

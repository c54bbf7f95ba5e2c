"""``send``: one message to an agent, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from a2a_events.cli import flags

if TYPE_CHECKING:
    from a2a_events.model import Message


def _json(_context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """The value of an option that takes JSON; ``...`` where it was not given, because ``null`` is a value."""
    import json

    if value is None:
        return ...
    try:
        return json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"this is not JSON: {error}", param=parameter) from None


@click.command(short_help="Send a message to an agent and show what comes back.")
@click.argument("text", required=False)
@flags.urls
@click.option("--data", metavar="JSON", callback=_json, help="Send a data part with this value.")
@click.option("--script", metavar="JSON", callback=_json, help="Send a script for the demo agent `scripted`.")
@click.option("--task", "task_id", default="", metavar="TASK", help="A further message to this task.")
@click.option("--context", "context_id", default="", metavar="CONTEXT", help="A new task in this conversation.")
@click.option("--stream/--no-stream", default=True, show_default=True, help="Show updates as they come.")
@click.option("--return-immediately", is_flag=True, help="Do not wait: show the task as soon as it is stored.")
@click.option("--idempotency-key", metavar="KEY", help="Sent again with this key, the message is taken once.")
@flags.output("text", "ndjson")
def send(
    *,
    text: str | None,
    urls: tuple[str, ...],
    headers: tuple[str, ...],
    token: str | None,
    key: str | None,
    data: Any,
    script: Any,
    task_id: str,
    context_id: str,
    stream: bool,
    return_immediately: bool,
    idempotency_key: str | None,
    output: str | None,
) -> int:
    """Send TEXT to an agent and show what comes back, as it comes.

    On a terminal for people to read; piped as JSON lines: one update (StreamResponse) a line, with the cursor to resume
    after it beside. The exit code is 0 when the task completed or waits for you, 1 when it failed, was rejected or was
    canceled. Ctrl-C leaves the task alone; `watch` goes on with it.

    \b
    Examples:
      a2a-events send "hello"
      a2a-events send --script '{"chunks": 50, "delayMs": 100}'   # the demo agent, slowly
      a2a-events send --task TASK "yes, go on"                    # answer a question
      a2a-events send --return-immediately "a long job"           # then: a2a-events watch TASK
      a2a-events send --api-key @ci.key "hello"
      a2a-events send "hello" | jq -r '.artifactUpdate.artifact.parts[]?.text'
    """
    from a2a_events.cli import show
    from a2a_events.client import Client
    from a2a_events.model import StreamResponse, Task

    message = _message(text, data, script, idempotency_key)
    screen = show.screen(output)
    addresses = flags.addresses(urls)
    shown = flags.credentials(token, key)

    async def work() -> int:
        async with Client(addresses, headers=flags.parse_headers(headers), credentials=shown) as client:
            if stream and not return_immediately:
                updates = client.stream(
                    message, task_id=task_id, context_id=context_id, idempotency_key=idempotency_key
                )
                return await show.follow(updates, screen, urls)
            reply = await client.send(
                message,
                task_id=task_id,
                context_id=context_id,
                return_immediately=return_immediately,
                idempotency_key=idempotency_key,
            )
            response = StreamResponse(task=reply) if isinstance(reply, Task) else StreamResponse(message=reply)
            return show.whole(response, screen, urls)

    return show.run(work())


def _message(text: str | None, data: Any, script: Any, key: str | None) -> Message:
    from a2a_events.client.repetition import message_id_for
    from a2a_events.model import Message, Part, Role

    parts: list[Part] = []
    if text is not None:
        parts.append(Part(text=text))
    if data is not ...:
        parts.append(Part(data=data))
    if script is not ...:
        parts.append(Part(data={"script": script}))
    if not parts:
        raise click.UsageError("there is nothing to send: give TEXT, --data or --script")
    return Message(message_id=message_id_for(key), role=Role.USER, parts=tuple(parts))

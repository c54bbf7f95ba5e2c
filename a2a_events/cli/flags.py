"""Options that are settings: flags of the command line over the environment over the defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from a2a_events.settings import PREFIX, Settings

if TYPE_CHECKING:
    from a2a_events.client import Credentials

Command = TypeVar("Command", bound=Callable[..., Any])

_PORT: Final = click.IntRange(1, 65535)
_SECONDS: Final = click.FloatRange(min=0.1)
_COUNT: Final = click.IntRange(min=1)

_HELP: Final[dict[str, tuple[str, click.ParamType[Any] | type]]] = {
    "nats": ("NATS servers, comma-separated.", str),
    "nats_credentials": ("Credentials file for NATS.", str),
    "namespace": ("First token of every subject; deployments that share a server differ in it.", str),
    "log": ("Log that new tasks go to.", str),
    "regions": ("Every region's log and the JetStream domain of it: LOG=DOMAIN, comma-separated.", str),
    "shards": ("Streams to spread tasks over: 4 for one server, 1 for a cluster.", _COUNT),
    "replicas": ("Copies of each stream.", _COUNT),
    "host": ("Address to listen on.", str),
    "port": ("Port to listen on.", _PORT),
    "public_url": ("Address that clients use, as agent cards show it.", str),
    "grpc_port": ("Port for gRPC; needs the extra a2a-events[grpc].", click.IntRange(0, 65535)),
    "public_grpc": ("HOST:PORT that gRPC clients use, as agent cards show it.", str),
    "auth": ("How callers say who they are: none, or some of api_keys, jwt, proxy.", str),
    "allow_anonymous": ("Let everybody do everything also where others reach the gateway.", bool),
    "auth_api_keys": ("File with the hashes of API keys.", str),
    "default_agent": ("Agent at the root URL; the others are at /agents/NAME.", str),
    "card": ("Agent card (JSON file) to show instead of the announced one.", str),
    "extended_card": ("Extended agent card (JSON file), shown by GetExtendedAgentCard.", str),
    "card_keys": ("Files with the private keys that sign agent cards, comma-separated.", str),
    "index": ("File of the index behind ListTasks, one process a file.", str),
    "hybrid_card": ("Put the members of A2A 0.3 into agent cards as well.", bool),
    "debug_api": ("Show timelines below /debug/timelines, each task's to who may see the task.", bool),
    "timeline_host": ("Address that the timeline page listens on; any but loopback needs a token.", str),
    "timeline_port": ("Port of the timeline page.", _PORT),
    "a2a_1_1": ("Show what A2A 1.1 is going to add: generations, long polling, conditional messages.", bool),
    "content_bytes": ("Largest message or report, in bytes.", _COUNT),
    "request_bytes": ("Largest request body, in bytes.", _COUNT),
    "queue_limit": ("Queued and running messages of an agent, over which new tasks are refused.", click.IntRange(0)),
    "turns": ("Turns that a worker runs at once.", _COUNT),
    "ack_wait_seconds": ("Silence after which a worker's turn is offered to another.", _SECONDS),
    "drain_seconds": ("What turns get to end when a worker is stopped.", _SECONDS),
    "blocked_loop_seconds": (
        "How long an agent may block its worker's event loop; then the process is replaced.",
        _SECONDS,
    ),
    "push": ("Whether to offer push notifications.", bool),
    "push_allow_private": ("Whether webhooks may be at private addresses: for development.", bool),
    "push_keys": ("File with the keys of webhook secrets: base64 of 32 bytes, one a line.", str),
    "push_attempts": ("Attempts at one update before its webhook is given up.", _COUNT),
    "push_pause_seconds": ("Pause after the first failed attempt; then twice as long each time.", _SECONDS),
    "instance": ("Name of this process in records.", str),
    "store": ("Folder for the data of the embedded NATS server.", str),
    "sync": ("When the embedded server syncs to disk: always, or an interval as 2m.", str),
    "log_level": ("What to log.", click.Choice(["debug", "info", "warning", "error"])),
    "log_format": ("How to log.", click.Choice(["json", "pretty"])),
}
_DERIVED: Final = {
    "regions": "one region",
    "public_url": "http://HOST:PORT",
    "grpc_port": "none",
    "public_grpc": "host of the public URL, and the gRPC port",
    "default_agent": "first by name",
    "index": "in memory",
    "hybrid_card": "off",
    "a2a_1_1": "off",
    "allow_anonymous": "off",
    "debug_api": "off",
    "blocked_loop_seconds": "as --ack-wait-seconds",
    "push": "on",
    "push_allow_private": "off",
    "push_keys": "a key that the deployment makes and keeps",
    "instance": "host name and random",
    "log_format": "pretty on a terminal, json elsewhere",
}

LOGGING: Final = ("log_level", "log_format")
PUSH: Final = ("push", "push_allow_private", "push_keys")
CONNECTION: Final = ("nats", "nats_credentials", "namespace")


def settings(*names: str, **derived: str) -> Callable[[Command], Command]:
    """Options for these settings, in this order.

    Args:
        names: of settings.
        derived: for a setting of that name, what its default is in this command, in words.
    """
    defaults = Settings()

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            text, kind = _HELP[name]
            default = getattr(defaults, name)
            shown = derived.get(name) or _DERIVED.get(name) or (str(default) if default != "" else False)
            spelled = name.replace("_", "-")
            command = click.option(
                f"--{spelled}/--no-{spelled}" if kind is bool else f"--{spelled}",
                name,
                type=None if kind is bool else kind,
                default=None,
                show_default=shown,
                help=f"{text}  [{PREFIX}{name.upper()}]",
            )(command)
        return command

    return decorate


def agents(command: Command) -> Command:
    """The repeatable ``--agent``."""
    return click.option(
        "--agent",
        multiple=True,
        metavar="MODULE:ATTR",
        help=f"Agent to serve, importable from this folder; repeatable.  [{PREFIX}AGENT]",
    )(command)


def output(on_terminal: str, elsewhere: str, *others: str, note: str = "") -> Callable[[Command], Command]:
    """``--output``: None unless given, which means one format on a terminal and one elsewhere.

    Args:
        on_terminal: the format for people.
        elsewhere: the format for pipes.
        others: formats that have to be asked for.
        note: what is to be said of them.
    """
    return click.option(
        "-o",
        "--output",
        type=click.Choice(list(dict.fromkeys((on_terminal, elsewhere, *others)))),
        default=None,
        show_default=f"{on_terminal} on a terminal, {elsewhere} elsewhere",
        help=f"How to print. {note}".strip(),
    )


def addresses(given: tuple[str, ...]) -> list[str]:
    """The URLs to call: those given, or where a gateway with this environment listens.

    Raises:
        SettingsError: the environment holds an unknown setting.
        BadParameter: not a URL.
    """
    from a2a_events.settings import load

    settings = load()
    chosen = list(given) or [settings.base_url]
    for url in chosen:
        if not url.startswith(("http://", "https://")):
            raise click.BadParameter(f"{url!r} is not an http or https URL", param_hint="--url")
    return chosen


def parse_headers(given: tuple[str, ...]) -> dict[str, str]:
    """``Name: value`` pairs.

    Raises:
        BadParameter: no colon.
    """
    headers: dict[str, str] = {}
    for one in given:
        name, colon, value = one.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{one!r} is not of the form 'NAME: VALUE'", param_hint="--header")
        headers[name.strip()] = value.strip()
    return headers


def credentials(token: str | None, key: str | None) -> Credentials | None:
    """What ``--token`` and ``--api-key`` give; ``@FILE`` is read, again when a server has refused what it held.

    Raises:
        BadParameter: both are given, or the file cannot be read.
    """
    from a2a_events.client import api_key, bearer

    if token and key:
        raise click.BadParameter("give a token or an API key, not both", param_hint="--token")
    if token:
        return bearer(_secret(token, "--token"))
    return api_key(_secret(key, "--api-key")) if key else None


def _secret(value: str, option: str) -> str | Callable[[], str]:
    if not value.startswith("@"):
        return value
    path = Path(value[1:])
    try:
        path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"cannot read {path}: {error}", param_hint=option) from None
    return path.read_text


def urls(command: Command) -> Command:
    """The repeatable ``--url`` of commands that call an agent, and the headers and credentials they send."""
    command = click.option(
        "--api-key",
        "key",
        metavar="KEY|@FILE",
        envvar="A2A_API_KEY",
        show_envvar=True,
        help="API key; @FILE keeps it out of the process list.",
    )(command)
    command = click.option(
        "--token",
        metavar="TOKEN|@FILE",
        envvar="A2A_TOKEN",
        show_envvar=True,
        help="Bearer token, or a file that is read again when the token has expired.",
    )(command)
    command = click.option(
        "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="HTTP header to send; repeatable."
    )(command)
    return click.option(
        "--url",
        "urls",
        multiple=True,
        metavar="URL",
        help="Where the agent's card is, without /.well-known/…; repeat it for several gateways of the same agent."
        f"  [default: {Settings().base_url}, or as {PREFIX}HOST, _PORT and _PUBLIC_URL say]",
    )(command)

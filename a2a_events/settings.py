"""Settings, from flags and from the environment as ``A2A_EVENTS_<NAME>``; an unknown name is refused, not ignored."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from a2a_events import limits

PREFIX: Final = "A2A_EVENTS_"
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NAMESPACE_CHARACTERS: Final = 64
_LOG: Final = re.compile(r"[a-z0-9]{1,16}")
_METHODS: Final = ("none", "api_keys", "jwt", "proxy")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SettingsError(ValueError):
    """A setting is unknown or malformed; the message names it and what was expected."""


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set. Flags of the command line win over the environment."""

    nats: str = "nats://127.0.0.1:4222"
    """Servers, comma-separated."""
    nats_credentials: str = ""
    """Path of a credentials file, as nsc writes it, or of one that holds nothing but the seed of an nkey."""
    nats_role: str = ""
    """Role as whose user this process signs in; default: that of the service, and ``operator`` for people's commands.
    Users with the permissions of a role hear answers to that role and no other."""
    nats_ca: str = ""
    """Path of the certificates (PEM) that servers' certificates are checked against; default: those of the system."""
    nats_raw: bool | None = None
    """Our own framing on nats-py's connection; unset: where the installed version is known."""
    namespace: str = "a2a"
    """First token of every subject, and of stream names in upper case."""
    log: str = "main"
    """Log that new tasks go to."""
    regions: str = ""
    """Logs of all regions and the JetStream domain of each, as log=domain, comma-separated; empty: one region. The own
    log may be among them, so every region can have the same value."""
    tenant_homes: str = ""
    """Tenants whose new tasks go to one log from wherever they are sent, as tenant=log, comma-separated; ``*`` is every
    other tenant."""
    shards: int = 4
    """Shards that provisioning makes: 4 for one server that syncs each write, 1 for a cluster."""
    replicas: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str = ""
    """Address that clients use, shown in agent cards; default: http://host:port."""
    grpc_port: int = 0
    """Port of the gRPC binding, on the same host; 0: no gRPC. Needs the extra ``grpc``."""
    public_grpc: str = ""
    """host:port that gRPC clients use, shown in agent cards; default: the host of the public URL, and grpc_port."""
    auth: str = "none"
    """How callers say who they are: ``api_keys``, ``jwt``, ``proxy``, or several of these, comma-separated; ``none``:
    everybody may do everything, for development."""
    allow_anonymous: bool = False
    """Whether a gateway with ``auth`` none may listen where others than this machine reach it."""
    auth_api_keys: str = ""
    """Path of the file with the hashes of API keys; ``a2a-events api-key`` writes it."""
    auth_jwt_issuer: str = ""
    """Whose tokens are accepted, exactly as their ``iss`` has it."""
    auth_jwt_audience: str = ""
    """What their ``aud`` must contain: the name of this service at the issuer."""
    auth_jwt_keys: str = ""
    """URL or path of the issuer's JWKS; empty: where its OpenID configuration says."""
    auth_jwt_algorithms: str = "RS256,ES256,EdDSA"
    """Algorithms of signatures that are accepted, comma-separated."""
    auth_jwt_tenant: str = ""
    """Claim that names the tenant; empty: all callers are of the one tenant without a name."""
    auth_jwt_scopes: str = "read=a2a:read,write=a2a:write,admin=a2a:admin"
    """What read, write and admin are called in tokens."""
    auth_jwt_leeway_seconds: Annotated[float, Meta(ge=0, le=55)] = 30.0
    """By how much the clocks of issuer and gateway may differ."""
    auth_tenant: str = ""
    """The only tenant whose callers may do anything, for a deployment of one tenant; empty: all tenants'."""
    trusted_proxies: str = ""
    """Networks of proxies whose headers count, as CIDR, comma-separated."""
    auth_proxy_headers: str = "subject=x-forwarded-client-cert"
    """Headers of a trusted proxy that name subject, tenant and scopes, as subject=name,tenant=name,scopes=name."""
    auth_revoked: str = ""
    """Path of a file that names who is let in no more, one a line: ``subject NAME``, ``tenant NAME``, ``credential
    ID``."""
    rate_per_tenant: Annotated[float, Meta(ge=0)] = limits.TENANT_REQUESTS_PER_SECOND
    """Requests that one tenant may send in a second, over all gateways; 0: any number. A caller without a tenant counts
    alone; where ``auth`` is none only addresses count."""
    rate_per_tenant_burst: Annotated[int, Meta(ge=1)] = limits.TENANT_BURST
    """How many of them at once, after a pause."""
    rate_per_address: Annotated[float, Meta(ge=0)] = limits.ADDRESS_REQUESTS_PER_SECOND
    """Requests that may come from one address in a second, over all gateways; 0: any number. This machine's own and
    those of ``trusted_proxies`` do not count."""
    rate_per_address_burst: Annotated[int, Meta(ge=1)] = limits.ADDRESS_BURST
    """How many of them at once, after a pause."""
    streams_per_tenant: Annotated[int, Meta(ge=0)] = limits.STREAMS_PER_TENANT
    """Open streams of one tenant, over all gateways; 0: any number."""
    streams_per_address: Annotated[int, Meta(ge=0)] = limits.STREAMS_PER_ADDRESS
    """Open streams of one address, over all gateways; 0: any number."""
    stream_seconds: Annotated[float, Meta(ge=0)] = limits.STREAM_SECONDS
    """Longest time that a stream is open; it resumes from its cursor. 0: any time."""
    default_agent: str = ""
    """Agent at the root; default: the first by name."""
    card: str = ""
    """Path of an agent card (JSON) that overrides what workers announce."""
    extended_card: str = ""
    """Path of an extended agent card (JSON), shown by GetExtendedAgentCard; TENANT=PATH for the callers of one tenant,
    which needs ``auth``; several, comma-separated."""
    card_keys: str = ""
    """Paths of the private keys that sign agent cards (JWK, JWKS or PEM), comma-separated; KID=PATH names the one in a
    PEM. ``a2a-events card keygen`` makes one. Needs the extra ``signing``."""
    card_jku: str = ""
    """URL of the public halves, as signatures of cards name it; this gateway shows them under
    ``/.well-known/jwks.json``."""
    a2a_1_1: bool = False
    """Show what A2A 1.1 is going to add: generations of tasks and updates, long polling, conditional messages."""
    index: str = ""
    """File of the index behind ListTasks, one process a file; default: in memory, built anew when first asked."""
    hybrid_card: bool = False
    """Whether agent cards also hold the members of A2A 0.3, which 1.0's schema does not know."""
    debug_api: bool = False
    """Whether gateways show timelines, each task's to who may see the task, below ``/debug/timelines``."""
    debug_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Port for these, at ``admin_host``; 0: beside the bindings, as a gateway may that listens on loopback only."""
    timeline_host: str = "127.0.0.1"
    """Address that the timeline page listens on; any but loopback needs ``timeline_token``."""
    timeline_port: int = 8090
    """Port of the timeline page."""
    timeline_token: str = ""
    """What the timeline page asks for, as a password or bearer token; empty: nothing, on loopback only."""
    agent: str = ""
    """Agents to serve, as module:attr, comma-separated."""
    content_bytes: Annotated[int, Meta(ge=64 * 1024)] = limits.CONTENT_BYTES
    """Largest message of a client, and largest report of an agent, as they are stored."""
    task_bytes: Annotated[int, Meta(ge=64 * 1024)] = limits.TASK_BYTES
    """Largest task, all its events together."""
    task_events: Annotated[int, Meta(ge=100)] = limits.TASK_EVENTS
    """Most events of one task."""
    artifact_bytes: Annotated[int, Meta(ge=1024)] = limits.ARTIFACT_BYTES
    """Largest artifact, however many chunks it comes in."""
    push_configs: Annotated[int, Meta(ge=1)] = limits.WEBHOOKS
    """Most push notification configs of one task."""
    history_messages: Annotated[int, Meta(ge=1)] = limits.HISTORY_MESSAGES
    """Most messages of history in an answer, the newest."""
    history_bytes: Annotated[int, Meta(ge=1024)] = limits.HISTORY_BYTES
    """The same in bytes; the newest message is shown in any case."""
    request_bytes: Annotated[int, Meta(ge=1024)] = limits.REQUEST_BYTES
    """Largest request body."""
    json_names: Annotated[int, Meta(ge=100)] = limits.JSON_NAMES
    """Most members of one object in a request body."""
    url_bytes: Annotated[int, Meta(ge=1024)] = limits.URL_BYTES
    """Longest URL of a request."""
    header_bytes: Annotated[int, Meta(ge=1024)] = limits.REQUEST_HEADER_BYTES
    """Largest headers of a request, all together."""
    header_fields: Annotated[int, Meta(ge=20)] = limits.REQUEST_HEADER_FIELDS
    """Most headers of a request."""
    header_seconds: Annotated[float, Meta(gt=0)] = limits.REQUEST_HEADER_SECONDS
    """What a client gets to send the headers of a request."""
    body_seconds: Annotated[float, Meta(gt=0)] = limits.REQUEST_BODY_SECONDS
    """What a client gets to send the body of a request, and a second more for every 128 KiB that have come."""
    idle_seconds: Annotated[float, Meta(gt=0)] = limits.IDLE_CONNECTION_SECONDS
    """How long a connection may be open without a request."""
    queue_limit: Annotated[int, Meta(ge=0)] = limits.QUEUE_LIMIT
    """Messages of one agent that are queued or running, over which a gateway refuses new tasks; 0: no limit."""
    turns: int = limits.TURNS_PER_WORKER
    """Turns that one worker runs at once."""
    ack_wait_seconds: float = limits.ACK_WAIT_SECONDS
    drain_seconds: float = limits.DRAIN_SECONDS
    blocked_loop_seconds: Annotated[float, Meta(ge=0)] = 0.0
    """How long an agent may block the event loop of its worker before the process is replaced; 0: ack_wait_seconds,
    when others have taken its turns in any case."""
    drain_spread_seconds: Annotated[float, Meta(ge=0)] = limits.DRAIN_SPREAD_SECONDS
    """Over which a gateway that stops ends its streams."""
    pre_stop_seconds: Annotated[float, Meta(ge=0)] = 0.0
    """How long a gateway that is asked to stop serves on, unready, until nobody sends requests its way."""
    sweep: bool = True
    """Whether workers of this process may be the one that asks after silent tasks."""
    silence_seconds: float = 0.0
    """Silence of a task that should be acted on before somebody asks; 0: four times the ack wait."""
    push: bool = True
    """Whether push notifications are offered, by agents whose cards do not say that they are not."""
    push_allow_private: bool = False
    """Whether webhooks may be at private addresses: for development."""
    push_keys: str = ""
    """Path of a file with the keys of webhook secrets, base64 of 32 bytes a line; default: the deployment's own key."""
    push_attempts: int = limits.WEBHOOK_ATTEMPTS
    """Attempts at one update before its webhook is given up."""
    push_pause_seconds: float = limits.WEBHOOK_PAUSE_SECONDS
    """After the first failed attempt; each further one is twice as long, up to 5 minutes."""
    instance: str = ""
    """Name of this process in records; default: host name and random."""
    store: str = ""
    """Where the embedded server keeps its data."""
    sync: str = "always"
    """sync_interval of the embedded server."""
    admin_host: str = "127.0.0.1"
    """Address of the admin port."""
    admin_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Port for probes and metrics, of every service; 0: none."""
    commit: str = ""
    """What this was built of, for the metric ``a2a_build_info``."""
    traces: str = ""
    """Where spans go: ``otlp`` (the variables ``OTEL_…`` say more) or ``file:FOLDER``; empty: nowhere. Needs the extra
    ``tracing``."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["", "json", "pretty"] = ""
    """Default: pretty on a terminal, JSON elsewhere."""

    @property
    def base_url(self) -> str:
        """The public URL, or the address listened on."""
        return (self.public_url or f"http://{self._reachable_host}:{self.port}").rstrip("/")

    @property
    def grpc_address(self) -> str:
        """Where gRPC clients connect, as host:port; empty without gRPC."""
        if not self.grpc_port:
            return ""
        host = urlsplit(self.public_url).hostname or self._reachable_host
        return self.public_grpc or (f"[{host}]:{self.grpc_port}" if ":" in host else f"{host}:{self.grpc_port}")

    @property
    def auth_methods(self) -> tuple[str, ...]:
        """The methods of ``auth``; empty for none.

        Raises:
            SettingsError: one is unknown, or ``none`` is not alone.
        """
        named = tuple(dict.fromkeys(filter(None, (name.strip() for name in self.auth.split(",")))))
        unknown = [name for name in named if name not in _METHODS]
        if not named or unknown or ("none" in named and len(named) > 1):
            raise SettingsError(f"{PREFIX}AUTH={self.auth!r} must be none, or some of {', '.join(_METHODS[1:])}")
        return tuple(name for name in named if name != "none")

    @property
    def blocked_loop_bound_seconds(self) -> float:
        """``blocked_loop_seconds``, or what it stands for."""
        return self.blocked_loop_seconds or self.ack_wait_seconds

    @property
    def _reachable_host(self) -> str:
        return "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 -- compared, not bound

    @property
    def silence(self) -> float:
        """Seconds of silence before somebody asks after a task.

        Raises:
            SettingsError: the broker would still be about to deliver again by itself.
        """
        least = 2 * self.ack_wait_seconds
        if self.silence_seconds and self.silence_seconds <= least:
            raise SettingsError(
                f"{PREFIX}SILENCE_SECONDS={self.silence_seconds:g} must be over {least:g}, twice the ack wait"
            )
        return self.silence_seconds or limits.SILENCE_ACK_WAITS * self.ack_wait_seconds

    @property
    def other_logs(self) -> dict[str, str]:
        """The logs of other regions, and the JetStream domain of each.

        Raises:
            SettingsError: a log or a domain cannot have this name.
        """
        return {log: domain for log, domain in self._regions().items() if log != self.log}

    @property
    def domains(self) -> set[str]:
        """The JetStream domains of all regions; errors as :attr:`other_logs`."""
        return {*self._regions().values()}

    def _regions(self) -> dict[str, str]:
        found = pairs("REGIONS", self.regions)
        for log, domain in found.items():
            if not _LOG.fullmatch(log) or not _DOMAIN.fullmatch(domain):
                raise SettingsError(f"{PREFIX}REGIONS: {log}={domain} is not a log's name and a JetStream domain's")
        return found

    @property
    def homes(self) -> dict[str, str]:
        """Raw names of tenants, and the log of each.

        Raises:
            SettingsError: a log is in no region that is known here.
        """
        found = pairs("TENANT_HOMES", self.tenant_homes)
        for tenant, log in found.items():
            if log != self.log and log not in self.other_logs:
                raise SettingsError(f"{PREFIX}TENANT_HOMES: tenant {tenant!r} is at home in log {log!r}, of no region")
        return found

    @property
    def servers(self) -> list[str]:
        """NATS servers to try."""
        return [url.strip() for url in self.nats.split(",") if url.strip()]

    @property
    def shown_nats(self) -> str:
        """``nats`` as it may be printed and logged: a name and a password in an address are nobody else's."""
        return ",".join(_without_credentials(url) for url in self.servers)


def _without_credentials(url: str) -> str:
    before, at, host = url.rpartition("@")
    scheme, slashes, _ = before.rpartition("://")
    return f"{scheme}{slashes}***@{host}" if at else url


def pairs(name: str, text: str) -> dict[str, str]:
    """The value of a setting that is a list of name=value, comma-separated.

    Args:
        name: of the setting.
        text: its value.

    Raises:
        SettingsError: a pair is none, or names something twice.
    """
    found: dict[str, str] = {}
    for pair in filter(None, (pair.strip() for pair in text.split(","))):
        key, equals, value = (part.strip() for part in pair.rpartition("="))
        if not (key and equals and value) or key in found:
            raise SettingsError(f"{PREFIX}{name}: {pair!r} is not name=name, or names something twice")
        found[key] = value
    return found


def load(flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process.

    Args:
        flags: given on the command line; None values were not.
        environment: default: the process's.

    Raises:
        SettingsError: a variable is unknown, a value is not of its type, or a name is none.
    """
    environ = os.environ if environment is None else environment
    hints = get_type_hints(Settings, include_extras=True)
    values: dict[str, Any] = {}
    for variable, raw in environ.items():
        if not variable.startswith(PREFIX) or variable.startswith(f"{PREFIX}TEST_"):
            continue  # TEST_ is for test suites, whose processes inherit it
        name = variable.removeprefix(PREFIX).lower()
        if name not in hints:
            known = ", ".join(PREFIX + n.upper() for n in sorted(hints))
            raise SettingsError(f"unknown setting {variable}; known are {known}")
        values[name] = _convert(variable, raw, hints[name])
    values.update({name: value for name, value in (flags or {}).items() if value is not None})
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(str(error)) from None
    _check_names(settings)
    return settings


def _check_names(settings: Settings) -> None:
    """They become subjects, names of streams, and configuration of nats-server, none of which can quote them."""
    namespace = settings.namespace
    if not _NAMESPACE.fullmatch(namespace) or len(namespace) > _NAMESPACE_CHARACTERS:
        raise SettingsError(
            f"{PREFIX}NAMESPACE={namespace!r} must be letters, digits, dashes and underscores, with inner dots, "
            f"at most {_NAMESPACE_CHARACTERS}"
        )
    if not _LOG.fullmatch(settings.log):
        raise SettingsError(f"{PREFIX}LOG={settings.log!r} must be 1 to 16 lower-case letters and digits")


def _convert(variable: str, raw: str, of: Any) -> Any:
    try:
        return msgspec.convert(raw, of, strict=False)
    except msgspec.ValidationError as error:
        choices = ", ".join(repr(choice) for choice in get_args(of)) if get_origin(of) is Literal else ""
        expected = f"expected one of {choices}" if choices else str(error)
        raise SettingsError(f"{variable}={raw!r}: {expected}") from None

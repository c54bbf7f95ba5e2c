"""How a stream or consumer that is there differs from what this version makes, and whose doing that is.

Provisioning writes into a stream's metadata what it was made as. A setting that still has that value and is to have
another one was made by another version: an upgrade changes it. One that has a third value was changed by somebody, who
is told and not overruled. Settings that are not named here are the operator's: replicas, placement, limits and more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

MADE_AS: Final = "a2a-events-made-as"
"""Stream metadata: the settings that provisioning gave it, as JSON. Without it another owner made the stream, or the
first version, which did not write it."""
MADE_BY: Final = "a2a-events-made-by"
"""Stream metadata: the version of this software that made or upgraded it last."""

STREAM_SETTINGS: Final = (
    "subjects",
    "storage",
    "persist_mode",
    "retention",
    "discard",
    "allow_direct",
    "republish",
    "max_msgs_per_subject",
    "allow_msg_schedules",
    "allow_msg_ttl",
    "allow_rollup_hdrs",
    "deny_delete",
    "deny_purge",
    "sealed",
    "no_ack",
    "mirror",
    "sources",
    "subject_transform",
)
"""Settings of a stream without which this software does not work, or loses what it has promised to keep."""
CONSUMER_SETTINGS: Final = (
    "filter_subject",
    "filter_subjects",
    "ack_policy",
    "deliver_policy",
    "deliver_subject",
    "headers_only",
    "max_deliver",
    "replay_policy",
)
"""Likewise of a consumer. How long it waits for acknowledgements is a setting of workers, which they make true."""
_FIXED: Final = frozenset(
    {"storage", "persist_mode", "retention", "deny_delete", "deny_purge", "sealed", "deliver_policy", "deliver_subject"}
)
"""Settings that no update changes (back)."""
_DEFAULTS: Final[dict[str, Any]] = {"discard": "old", "max_msgs_per_subject": -1, "max_deliver": -1}
"""What the server writes where nothing was asked for; elsewhere that is no value."""
_CHOSEN_ELSEWHERE: Final = {"discard": "new"}
"""Safer than the default, so that an operator may choose it where this software asks for nothing."""


class Drift(Struct, frozen=True):
    """One setting that is not what this version needs and did not make."""

    stream: str
    consumer: str
    """Empty: it is the stream's."""
    setting: str
    found: Any
    wanted: Any

    @property
    def where(self) -> str:
        """Stream or consumer, in words."""
        return f"consumer {self.consumer} of stream {self.stream}" if self.consumer else f"stream {self.stream}"

    @property
    def remedy(self) -> str:
        """What to do."""
        if self.setting in _FIXED and self.consumer:
            return "delete the consumer and provision again: it is made anew, and what is settled stays settled"
        if self.setting in _FIXED:
            return "no update changes this, and a backup would bring it back: use another log (--log) or namespace"
        return f"set it back to {_text(self.wanted)} by an update, or use another namespace"

    def __str__(self) -> str:
        return (
            f"{self.where} has {self.setting} {_text(self.found)} where {_text(self.wanted)} is needed, and"
            f" no version of this software made it so: {self.remedy}"
        )


def made_as(config: Mapping[str, Any]) -> str:
    """What to write into the metadata of a stream that is made with these settings."""
    settings = {name: _value(config, name) for name in STREAM_SETTINGS}
    return msgspec.json.encode({n: v for n, v in settings.items() if v is not None}, order="sorted").decode()


def of_stream(
    wanted: Mapping[str, Any], there: Mapping[str, Any], first: Mapping[str, Any]
) -> tuple[list[Drift], list[str]]:
    """What somebody has changed, and the settings that are as another version made them.

    Args:
        wanted: the config that this version makes.
        there: the config that the server has.
        first: the config that the first version made: of streams that do not say what they were made as.
    """
    metadata: dict[str, str] = there.get("metadata") or {}
    written = metadata.get(MADE_AS)
    try:
        before: dict[str, Any] = msgspec.json.decode(written, type=dict[str, Any]) if written else dict(first)
    except ValueError:
        before = dict(first)
    drifts: list[Drift] = []
    outdated: list[str] = []
    for setting in STREAM_SETTINGS:
        need, found, made = _value(wanted, setting), _value(there, setting), _value(before, setting)
        if found == need or (need is None and found is not None and found == _CHOSEN_ELSEWHERE.get(setting)):
            continue
        if found == made:
            outdated.append(setting)
        else:
            drifts.append(Drift(there["name"], "", setting, found, need))
    return drifts, outdated


def of_consumer(stream: str, wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[Drift]:
    """What somebody has changed."""
    pairs = [(setting, _value(wanted, setting), _value(there, setting)) for setting in CONSUMER_SETTINGS]
    return [Drift(stream, wanted["durable_name"], s, found, need) for s, need, found in pairs if need != found]


def _value(config: Mapping[str, Any], setting: str) -> Any:
    value = config.get(setting)
    return None if value == _DEFAULTS.get(setting) else value or None


def _text(value: Any) -> str:
    return "no value" if value is None else msgspec.json.encode(value).decode()


def listed(drifts: Sequence[Drift]) -> str:
    """All of them, for an error."""
    return "; ".join(str(drift) for drift in drifts)

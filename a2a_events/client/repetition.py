"""When a request that may have taken effect may be sent again."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final
from uuid import UUID, uuid4, uuid5

IDEMPOTENT_SEND: Final = "urn:a2a-events:idempotent-send:v1"
"""URI of the extension by which an agent's card says that a message is taken once under its ``Idempotency-Key``."""


_HOME: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_MESSAGES: Final = UUID("0f8e6a2e-6b0c-5d3b-9a57-3f2b1f0c7d11")


def message_id_for(idempotency_key: str | None) -> str:
    """The id of a message that has none yet.

    Under a key of the caller's it is the same each time, because the same key with another message is refused. It is a
    hash: messages are stored and shown, keys are not.
    """
    return str(uuid5(_MESSAGES, idempotency_key) if idempotency_key else uuid4())


class SendKey:
    """Under which one message is sent, the same at every try.

    Args:
        given: by the caller, empty for none; None: one is made up. Where the card of the gateway that is tried first
            says which region it is in, that one begins with it: so the task is made there, and not in any region.
    """

    __slots__ = ("_made_up", "text")

    def __init__(self, given: str | None) -> None:
        self.text = str(uuid4()) if given is None else given
        self._made_up = given is None

    @property
    def repetition(self) -> Repetition:
        """When the message may be sent again."""
        return Repetition.KEYED if self.text else Repetition.NEVER

    def headers(self, home: str) -> dict[str, str]:
        """For a try at a gateway whose card says this of its region; empty if it says nothing."""
        if self._made_up and _HOME.fullmatch(home):
            self.text = f"{home}.{self.text}"
        self._made_up = False
        return {"Idempotency-Key": self.text} if self.text else {}


class Repetition(Enum):
    """Of one request, at the same gateway or at another one of the agent."""

    ALWAYS = auto()
    """It changes nothing, or nothing more."""
    KEYED = auto()
    """It has an idempotency key: where the agent's card declares :data:`IDEMPOTENT_SEND`."""
    NEVER = auto()

"""What may go wrong that is no answer of a server, as one small tree.

::

    Exception
    ├── a2a_events.errors.A2AError    the server's own answer: one class for each error of the protocol
    └── ClientError                   the way to the server, or what came back on it
        ├── ConnectionFailed          the network; nobody was reached, nothing was sent
        ├── NoAnswer                  the network; sent, and it may have taken effect
        ├── StreamInterrupted         the network; carries the cursor from which to go on
        └── BadAnswer                 the server, or a proxy before it; repeating cannot help
            └── CardNotTrusted        its card is not signed by whom the caller trusts; nothing was sent

Each says whose fault it was (the class) and whether the same call may be repeated (``retry_safe``).
"""

from __future__ import annotations


class ClientError(Exception):
    """No answer of the agent could be had.

    Args:
        message: one sentence.
        retry_safe: repeating the same call cannot do anything twice.
        retry_after_seconds: how long the server asked to be left alone; 0 if it did not.
    """

    def __init__(self, message: str, *, retry_safe: bool = False, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.message = message
        self.retry_safe = retry_safe
        self.retry_after_seconds = retry_after_seconds


class ConnectionFailed(ClientError):
    """No gateway of the agent could be reached. The call was never sent: it may be repeated at any time."""

    def __init__(self, message: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message, retry_safe=True, retry_after_seconds=retry_after_seconds)


class NoAnswer(ClientError):
    """The call was sent and its answer did not come: it may have taken effect, now or later, or never.

    Reads are safe to repeat (``retry_safe``). A message is not, unless the server honours ``idempotency_key``: then
    send it again with the same key, now or hours later. Otherwise look for its effect first.

    Args:
        message: one sentence.
        retry_safe: true for operations that change nothing.
        idempotency_key: under which the message was sent; empty for other operations.
    """

    def __init__(self, message: str, *, retry_safe: bool = False, idempotency_key: str = "") -> None:
        super().__init__(message, retry_safe=retry_safe)
        self.idempotency_key = idempotency_key


class StreamInterrupted(ClientError):
    """A stream broke and all attempts to go on with it failed; the task itself is not affected.

    Everything up to ``cursor`` was delivered, once and in order. ``client.subscribe(task_id, cursor)`` goes on after
    it, now or much later. The last failure is the ``__cause__``.

    Args:
        message: one sentence.
        task_id: the task.
        cursor: of the last update delivered; None if the server gives no cursors.
    """

    def __init__(self, message: str, *, task_id: str, cursor: str | None, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message, retry_safe=True, retry_after_seconds=retry_after_seconds)
        self.task_id = task_id
        self.cursor = cursor


class BadAnswer(ClientError):
    """What came back is not A2A 1.0: no JSON, a missing member, a redirect, a card without a usable interface.

    The call may have taken effect. The server, or a proxy before it, has to be repaired.
    """


class CardNotTrusted(BadAnswer):
    """The agent's card is not signed, or not with a key that the caller trusts, or not as it is now.

    For this call nothing was sent to the agent but the request for its card, without credentials unless it is for known
    callers only. The message says of each signature what is wrong: a key that is not known here is the caller's to add,
    or its operator's to announce; one that has expired is the operator's; a card that was changed is the fault of
    whoever stands between.
    """

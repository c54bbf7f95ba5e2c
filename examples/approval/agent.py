"""An agent that pays money back, and asks a person first."""

from __future__ import annotations

from a2a_events import Role, Turn, agent

BANK: dict[str, str] = {}
"""Stands for another service, which does once what it is asked for twice with one key."""


async def pay_back(order: str, key: str) -> str:
    """Ask the bank."""
    return BANK.setdefault(key, f"{order.capitalize()} is paid back.")


@agent(name="refunds", policy="rerun")
async def refunds(turn: Turn) -> None:
    """Pays back what an order has cost, if somebody says yes."""
    request, *later = turn.task.history
    order = str(request.parts[0].text)
    if not any(message.role is Role.AGENT for message in later):
        turn.require_input(f"Shall I pay back {order}? yes or no")
    elif turn.text.strip().lower() == "yes":
        receipt = await turn.step("pay back", pay_back, order, turn.idempotency_key("pay back"))
        await turn.artifact(receipt)
    else:
        turn.reject("Then I do not.")

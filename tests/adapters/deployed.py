"""What the processes of a deployment serve in these tests: executors, as ``--agent`` names them."""

from __future__ import annotations

from a2a.types import a2a_pb2 as pb

from a2a_events.adapters.a2a_sdk import agent_of
from tests.adapters.executors import Counter

rerun = agent_of(Counter(), name="rerun", policy="rerun")
carded = agent_of(
    Counter,
    name="carded",
    card=pb.AgentCard(
        name="A counter",
        description="Counts.",
        version="3.1.4",
        capabilities=pb.AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[pb.AgentSkill(id="count", name="Count", description="Counts.", tags=["numbers"])],
    ),
)

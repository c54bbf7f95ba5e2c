"""google-adk's executor over a model that is a function of its prompt; imported only where google-adk is installed."""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

from google.adk.a2a.executor.a2a_agent_executor import A2aAgentExecutor
from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.adk.tools import LongRunningFunctionTool
from google.genai import types


class LocalModel(BaseLlm):  # type: ignore[misc]  # where it is checked google-adk is not installed
    """Answers at once, slowly, or by asking for approval, as it is told."""

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,
    ) -> AsyncGenerator[LlmResponse, None]:
        parts = [part for content in llm_request.contents for part in content.parts or []]
        newest = parts[-1]
        if newest.function_response is not None:
            yield _said(f"answered: {(newest.function_response.response or {}).get('approved')}")
            return
        told = [part.text for part in parts if part.text]
        match told[-1]:
            case "slow":
                await asyncio.sleep(30)
                yield _said("too late")
            case "approve":
                call = types.FunctionCall(name="ask_for_approval", args={"amount": 12})
                yield LlmResponse(content=types.Content(role="model", parts=[types.Part(function_call=call)]))
            case text:
                yield _said(f"{len(told)} said, last {text}")


def _said(text: str) -> LlmResponse:
    return LlmResponse(content=types.Content(role="model", parts=[types.Part(text=text)]))


def ask_for_approval(amount: int) -> dict[str, str]:
    """Ask somebody to approve an amount."""
    return {"status": "pending", "amount": str(amount)}


runner = Runner(
    app_name="local",
    agent=LlmAgent(name="local", model=LocalModel(model="local"), tools=[LongRunningFunctionTool(ask_for_approval)]),
    session_service=SqliteSessionService(os.environ["ADK_SESSIONS"]),
)
executor = A2aAgentExecutor(runner=runner)

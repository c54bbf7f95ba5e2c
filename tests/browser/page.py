"""The timeline page as a test holds it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx

from a2a_events.testing import eventually
from tests.integration.http import VERSION, message


class OpenPage:
    """One window. ``trouble`` is what must never happen: errors, refused resources, requests to others, dialogs."""

    def __init__(self, window: Any, url: str) -> None:
        self.window = window
        self.trouble: list[str] = []
        self.requests: list[Any] = []
        self._home = urlsplit(url).netloc
        self._url = url
        window.set_default_timeout(20_000)
        window.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        window.on("console", self._said)
        window.on("request", self._requested)
        window.on("dialog", self._dialog)

    def _said(self, said: Any) -> None:
        if said.type in {"error", "warning"}:
            self.trouble.append(f"console: {said.text}")

    def _requested(self, request: Any) -> None:
        self.requests.append(request)
        if urlsplit(request.url).netloc not in {self._home, ""}:
            self.trouble.append(f"a request to {request.url}")

    async def _dialog(self, dialog: Any) -> None:
        self.trouble.append(f"a dialog: {dialog.message}")
        await dialog.dismiss()

    async def goto(self, url: str) -> None:
        await self.window.goto(url)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.window.keyboard.press(key)

    async def click(self, selector: str) -> None:
        await self.window.click(selector)

    async def text(self, selector: str) -> str:
        return str(await self.window.inner_text(selector))

    async def count(self, selector: str) -> int:
        return int(await self.window.locator(selector).count())

    async def evaluate(self, script: str, value: Any = None) -> Any:
        return await self.window.evaluate(script, value)

    async def nodes(self) -> int:
        """Elements of the whole document."""
        return int(await self.evaluate("document.querySelectorAll('*').length"))

    async def at(self, revision: int) -> None:
        """Wait until the task is shown at this revision: in the detail, the scrubber and the address."""
        shown = (
            "revision => document.querySelector('#detail').dataset.revision === String(revision)"
            " && location.pathname.endsWith('@' + revision)"
            " && document.querySelector('#range').value === String(revision)"
        )
        await self.window.wait_for_function(shown, arg=revision)

    async def sees(self, selector: str, text: str) -> None:
        """Wait until an element shows a text."""

        async def shown() -> bool:
            return text in await self.text(selector)

        await eventually(shown, what=f"{text!r} in {selector}")


async def send(
    gateway: str, content: Any, *, agent: str = "scripted", immediately: bool = False, task_id: str = ""
) -> str:
    """Send a message, to a task if one is named; the task's id."""
    how = {"configuration": {"returnImmediately": immediately}}
    members = {"taskId": task_id} if task_id else {}
    async with httpx.AsyncClient(base_url=gateway, headers=VERSION, timeout=120) as http:
        response = await http.post(f"/agents/{agent}/message:send", json={**message(content, **members), **how})
    assert response.status_code == 200, response.text
    return str(response.json()["task"]["id"])


async def run(gateway: str, **script: Any) -> str:
    """A task that has done what the script says."""
    return await send(gateway, {"script": script})

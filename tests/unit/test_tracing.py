"""Trace contexts: what is taken from a stranger's headers, and that nothing is imported for spans that nobody wants."""

from __future__ import annotations

import subprocess
import sys

import pytest

from a2a_events import tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("traceparent", "tracestate", "taken"),
    [
        (PARENT, "", PARENT),
        (PARENT, "vendor=1,other@x= two ,", f"{PARENT} vendor=1,other@x= two"),
        (PARENT, " a=1 ,\tb=2", f"{PARENT} a=1,b=2"),
        ("cc" + PARENT[2:] + "-what-comes-later", "", "cc" + PARENT[2:]),
        # no context at all
        ("", "a=1", ""),
        (PARENT.upper(), "", ""),
        (PARENT[:-1], "", ""),
        (PARENT + "-more", "", ""),
        ("cc" + PARENT[2:] + "more", "", ""),
        ("ff" + PARENT[2:], "", ""),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", "", ""),
        ("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01", "", ""),
        (PARENT + "\r\nX: y", "", ""),
        (f"{PARENT},{PARENT}", "", ""),
        # a context, whose state is left out
        (PARENT, "no member", PARENT),
        (PARENT, "A=1", PARENT),
        (PARENT, "a=1\r\nX: y", PARENT),
        (PARENT, "a=é", PARENT),
        (PARENT, "a=" + "x" * 255 + ",b=" + "y" * 255, PARENT),
    ],
)
def test_what_is_taken_of_a_request(traceparent: str, tracestate: str, taken: str) -> None:
    assert tracing.parse(traceparent, tracestate) == taken


def test_a_context_is_passed_on_where_nothing_is_recorded() -> None:
    assert tracing.current() == ""
    with tracing.span("server", "outer", parent=f"{PARENT} a=1"):
        assert tracing.current() == f"{PARENT} a=1"
        with tracing.span("producer", "inner") as span:
            assert span.context == f"{PARENT} a=1"
            assert tracing.headers(span.context) == {"traceparent": PARENT, "tracestate": "a=1"}
    assert tracing.current() == ""
    assert tracing.headers("") == {}
    assert tracing.ids(PARENT) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def test_what_begins_a_trace_passes_on_no_other() -> None:
    with tracing.span("server", "of somebody else", parent=PARENT):
        with tracing.span("server", "outer", parent="") as span:
            assert (span.context, tracing.current()) == ("", "")
        assert tracing.current() == PARENT


def test_services_that_do_not_record_import_nothing_for_it() -> None:
    code = (
        "import asyncio, sys\n"
        "from a2a_events.services import gateway, notifier, timeline, worker\n"
        "from a2a_events.services.operated import operated\n"
        "from a2a_events.settings import Settings\n"
        "async def main():\n"
        "    async with operated(Settings(), 'gateway'):\n"
        "        pass\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

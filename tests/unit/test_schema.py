"""What is published of records: schemas that are up to date, and that every record ever written keeps to."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from referencing import Registry, Resource

from a2a_events.timeline.record import Record, pack
from tests.unit.golden import every_timeline, records_of

FOLDER = Path(__file__).parents[2] / "docs" / "schema"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("schema_generator", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draft() -> Any:
    """The validator of the draft; imported here, which takes two seconds, in every process that collects tests."""
    return importlib.import_module("jsonschema").Draft202012Validator


def validator(name: str) -> Any:
    event = json.loads((FOLDER / "event.schema.json").read_text())
    registry: Registry[Any] = Registry().with_resource("event.schema.json", Resource.from_contents(event))
    return draft()(json.loads((FOLDER / name).read_text()), registry=registry)


def as_consumed(record: Record) -> dict[str, Any]:
    """A record as a consumer has it."""
    return {
        "subject": f"a2a.log.main.0.agent.-.t1-main-0-abcdefghijklmnop.{'in' if record.inbound else 'out'}",
        "position": record.position,
        "headers": {"A2A-Record": pack(record.header)},
        "events": [json.loads(line) for line in record.lines()],
    }


@pytest.mark.parametrize("name", ["event.schema.json", "record.schema.json", "asyncapi.json"])
def test_the_published_documents_are_up_to_date(name: str) -> None:
    made = generator()
    text = made.written(made.DOCUMENTS[name]())
    assert (FOLDER / name).read_text() == text, "run python docs/schema/generate.py"


@every_timeline
def test_every_record_that_was_ever_written_is_valid(path: Path) -> None:
    schema = validator("record.schema.json")
    listed = {kind["x-code"]: kind["title"] for kind in json.loads((FOLDER / "event.schema.json").read_text())["oneOf"]}
    for record in records_of(path):
        consumed = as_consumed(record)
        kinds = zip(record.header.kinds, consumed["events"], strict=True)
        # A consumer skips what a newer version wrote.
        consumed["events"] = [event for code, event in kinds if listed.get(code) in event]
        if consumed["events"] or path.stem != "unknown-kinds":
            schema.validate(consumed)


@pytest.mark.parametrize(
    "event",
    [
        {"statusUpdate": {"taskId": 7}},
        {"nothing": {}},
        {"turnClaimed": {"epoch": "one", "lease": 1}},
        {"submitted": {"contextId": "c"}},
    ],
)
def test_what_is_no_event_is_not_valid(event: dict[str, Any]) -> None:
    assert not validator("event.schema.json").is_valid(event)


def test_the_schemas_are_schemas_and_every_reference_leads_somewhere() -> None:
    for name in ("event.schema.json", "record.schema.json"):
        draft().check_schema(json.loads((FOLDER / name).read_text()))
    document = json.loads((FOLDER / "asyncapi.json").read_text())
    assert document["asyncapi"] == "3.0.0"
    assert {"info", "channels", "operations", "components"} <= document.keys()
    for reference in _references(document):
        if reference.startswith("#/"):
            found: Any = document
            for step in reference[2:].split("/"):
                found = found[step]
        else:
            assert (FOLDER / reference).exists()


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [r for v in value.values() for r in _references(v)]
    return [r for v in value for r in _references(v)] if isinstance(value, list) else []

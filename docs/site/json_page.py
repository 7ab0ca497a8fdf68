"""Writes docs/json.md: what every command prints with ``--json``, from the models that a test validates it against.

python docs/site/json_page.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sharpen.cli.schemas.commands import PRINTED, VERSION, schema_of

OUTPUT = re.compile(r"^Output of `[^`]+`[:;.]? ?")  # what the heading says already
PAGE = Path(__file__).parents[1] / "json.md"
HEAD = f"""# JSON

With `--json` a command prints one JSON object on stdout, or one list, and nothing else there; progress goes to stderr.
`sharpen schema COMMAND` prints its JSON Schema (draft 2020-12), and `sharpen schema` lists the commands. This page is
written from the same models by `python docs/site/json_page.py`; tests validate the real output of every command.

    sharpen schema llm forecast
    sharpen llm forecast --model embedded --json > forecast.json

This is **version {VERSION}**. The version, a part of each schema's `$id`, is raised when a field is removed or gets
another name, type or meaning. A field that is added does not raise it, so readers should not mind fields that they do
not know.

Numbers are finite: NaN does not occur, and infinity is null or the text `inf`, as the field says. Log-probabilities,
entropies and KL are in nats, lengths in tokens, intervals are of 95 % unless a field says otherwise. A field in
*italics* may be absent.
"""


def page() -> str:
    """Return the page."""
    shapes: dict[str, Any] = {}
    parts = [HEAD, "## Commands\n"]
    for command in PRINTED:
        found = schema_of(command)
        shapes |= found.pop("$defs", {})
        parts += [f"### sharpen {command}\n", *_printed(found)]
    parts.append("## Shapes\n")
    for name, shape in sorted(shapes.items()):
        if not shape.get("description", "").startswith("Output of"):
            parts += [f"### {name}\n", *_told(shape)]
    for name, shape in sorted(shapes.items()):
        if shape.get("description", "").startswith("Output of"):  # one of several that a command prints
            parts += [f"### {name}\n", *_told(shape)]
    return "\n".join(parts).rstrip() + "\n"


def _printed(schema: dict[str, Any]) -> list[str]:
    if "anyOf" in schema:
        return [f"{' or '.join(map(_type, schema['anyOf']))}.\n"]
    return _told(schema)


def _told(schema: dict[str, Any]) -> list[str]:
    """Return a shape's description and the table of its fields."""
    told = OUTPUT.sub("", " ".join(schema.get("description", "").split()).replace("``", "`"))
    parts = [f"{told[:1].upper()}{told[1:]}\n"] if told else []
    fields = schema.get("properties")
    if fields is None:
        return [*parts, f"{_type(schema).capitalize()}.\n"]
    rows = ["| field | type | content |", "| --- | --- | --- |"]
    for name, field in fields.items():
        shown = f"`{name}`" if name in schema.get("required", ()) else f"*`{name}`*"
        text = " ".join(field.get("description", "").split()).replace("``", "`").replace("|", "\\|")
        rows.append(f"| {shown} | {_type(field)} | {text} |")
    return [*parts, *rows, ""]


def _type(field: dict[str, Any]) -> str:
    """Return in words what a field may be, with links to shapes."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(map(_type, field["anyOf"])))
    if "enum" in field or "const" in field:
        return " or ".join(f'"{one}"' for one in field.get("enum", [field.get("const")]))
    kind = field.get("type")
    if "prefixItems" in field:
        return f"list: {', '.join(map(_type, field['prefixItems']))}"
    if kind == "array":
        counted = f"{field['minItems']} of " if field.get("minItems") == field.get("maxItems", -1) else "list of "
        return counted + _type(field.get("items", {}))
    if kind == "object":
        inside = field.get("additionalProperties", {})
        return f"by name: {_type(inside)}" if isinstance(inside, dict) and inside else "object"
    return {"string": "text", "boolean": "true or false", "null": "null"}.get(str(kind), str(kind or "anything"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""What every command prints with ``--json``: one pydantic model each, from which JSON Schemas and docs/json.md come."""

"""Commands of the llm group that use the theory's estimates too."""

from __future__ import annotations

import typer

from sharpen.cli.analysis import audit, forecast, outcomes, verify_sampler


def register(app: typer.Typer) -> None:
    """Add the commands to the llm group."""
    audit.register(app)
    forecast.register(app)
    outcomes.register(app)
    verify_sampler.register(app)

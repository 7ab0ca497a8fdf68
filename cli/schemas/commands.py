"""Which command prints what with ``--json``, as JSON Schemas of one version.

The version is raised when a field is removed, gets another name, another type or another meaning. A field that is added
does not raise it, so readers should take no harm from fields that they do not know.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from sharpen.cli.schemas import analysis, dynamics, llm, paper, theory, toy
from sharpen.objective import InputError

VERSION = 1
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PRINTED: dict[str, Any] = {
    "theory fixed-points": theory.FixedPoints,
    "theory derive": theory.Derived,
    "theory optimum": theory.OptimumReport | theory.KnownReport,
    "theory response": theory.Response | theory.KnownResponse,
    "theory coverage": theory.CoverageReport | theory.KnownCoverage,
    "theory sensitivity": dynamics.Sensitivity,
    "theory phase": dynamics.Phase,
    "theory estimators": dynamics.Estimators,
    "theory fold": dynamics.Folded,
    "theory self-sharpening": dynamics.SelfSharpening,
    "theory length": dynamics.Lengths,
    "theory sequences": dynamics.Sequences,
    "toy simulate": toy.Simulated,
    "toy sweep": toy.Swept,
    "toy findings": toy.Findings,
    "toy learners": toy.Learners,
    "toy target": toy.Target,
    "toy phase": toy.ToyPhase,
    "llm train": llm.Trained | llm.Planned,
    "llm eval": llm.Evaluated,
    "llm sample": llm.Sampled,
    "llm forecast": analysis.Forecast,
    "llm audit": analysis.Audit,
    "llm outcomes": analysis.Outcomes,
    "llm verify-sampler": analysis.Verified,
    "llm export": llm.Exported,
    "llm pretrain": llm.Pretrained | llm.Dial,
    "llm data": llm.Data,
    "llm tasks": llm.Tasks,
    "llm models": llm.Models,
    "llm recipes": llm.Recipes,
    "llm fetch": llm.Fetched,
    "paper list": paper.Experiments | paper.Runs,
    "paper status": paper.Status,
    "paper run": paper.Plans,
    "paper report": paper.Report,
    "paper verify": paper.Verification,
    "doctor": llm.Doctor,
}


def schema_of(command: str) -> dict[str, Any]:
    """Return the JSON Schema of what a command prints with ``--json``.

    Args:
        command: Without the program's name.

    Raises:
        InputError: there is no such command, or it has no ``--json``.

    Example:
        >>> schema_of("theory fold")["properties"]["beta"]
        {'description': 'Weight of the KL.', 'title': 'Beta', 'type': 'number'}
    """
    if command not in PRINTED:
        raise InputError("command", command, f"one that has --json: {', '.join(PRINTED)}")
    found = TypeAdapter(PRINTED[command]).json_schema()
    name = command.replace(" ", "-")
    return {"$schema": DIALECT, "$id": f"urn:sharpen:json:{VERSION}:{name}", **found}

"""``sharpen doctor``: what is installed, what this machine has, and what a run would still need."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from sharpen.cli.shared.options import JsonOutput
from sharpen.cli.shared.terminal import say

LACKS = 1  # exit status where the run that was named lacks something here


def doctor(
    run: Annotated[
        str | None, typer.Argument(help="A run folder, a file of settings, a recipe or a model: what would it need?")
    ] = None,
    json_output: JsonOutput = False,
) -> None:
    """Say what is installed, which device, models and data sets are here, and what a run would still need.

    Nothing is downloaded. With RUN the exit status is 1 if it lacks something on this machine.
    """
    from sharpen.cli.llm.packages import missing_packages
    from sharpen.llm.preflight import doctor as look
    from sharpen.objective.version import VERSION, install

    lacking = missing_packages()
    told: dict[str, Any] = {
        "version": VERSION,
        "machine": look.machine(),
        "packages": {extra: [one._asdict() for one in found] for extra, found in look.packages().items()},
        "models": None if lacking else [one._asdict() for one in look.models()],
        "data": None if lacking else [one._asdict() for one in look.data_sets()],
    }
    if run is not None:
        needed = [f"the package {name}: {install('llm')}" for name in lacking]
        needed += [] if lacking else [str(error) for error in look.missing(look.run_named(run))]
        told["run"] = {"name": run, "missing": needed}
    if json_output:
        say(json.dumps(told, allow_nan=False))
    else:
        _print(told)
    if run is not None and told["run"]["missing"]:
        raise typer.Exit(LACKS)


def _print(told: dict[str, Any]) -> None:
    from sharpen.objective.version import install

    here = told["machine"]
    memory = "memory unknown" if here["memory_gib"] is None else f"{here['memory_gib']:.1f} GiB of memory"
    say(f"sharpen {told['version']}, Python {here['python']}, {here['system']}")
    say(f"{here['cores']} cores, {memory}, {_gpus_in_words(here['gpus'])}")
    say("\npackages")
    for extra, found in told["packages"].items():
        absent = [one for one in found if not one["here"]]
        if extra == "dev":
            continue
        names = ", ".join(one["name"] for one in absent)
        say(f"  {extra:<10} " + (f"without {names}: {absent[0]['note']}" if absent else "all here"))
    for title, found in (("models", told["models"]), ("data sets", told["data"])):
        say(f"\n{title}")
        if found is None:
            say(f"  need the extra llm: {install('llm')}")
        for one in found or ():
            say(f"  {one['name']:<14} {'here' if one['here'] else 'not here: ' + one['note']}")
    if "run" in told:
        missing = told["run"]["missing"]
        say(f"\n{told['run']['name']} " + (f"lacks {len(missing)} here" if missing else "has all that it needs here"))
        for line in missing:
            say(f"  {line}")


def _gpus_in_words(gpus: list[str] | None) -> str:
    if gpus is None:
        return "GPU unknown: torch is not installed"
    return f"GPUs: {'; '.join(gpus)}" if gpus else "no GPU that torch sees"

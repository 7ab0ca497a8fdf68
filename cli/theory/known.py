"""``sharpen theory optimum --problems``: certain bounds of the optimum from a model's known outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.cli.shared import terminal
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.audit.outcomes import Known

KS = (4, 16)  # of pass@k
LISTED = 20  # problems in the table; --json has all


def report_known(spec: Objective, file: Path, json_output: bool) -> None:
    """Print bounds of E[r], pass@k, KL and log Z of the optimum, by problem and in the mean.

    Raises:
        InputError: the file cannot be used, or nothing bounds this objective's optimum.
    """
    import numpy as np

    from sharpen.theory.audit.outcomes import read_known

    problems = [_bounds(spec, known) for known in read_known(file)]
    names = [name for name, given in problems[0].items() if isinstance(given, list)]
    finite = {name: [row[name] for row in problems if row[name][1] is not None] for name in names}
    mean = {
        name: np.mean(rows, axis=0).tolist() if len(rows) == len(problems) else None for name, rows in finite.items()
    }
    mean |= {name: float(np.mean([row[name] for row in problems])) for name in ("mode_certain", "unseen_mass")}
    result = {
        "objective": spec.to_dict(),
        "regime": spec.regime,
        "n": len(problems),
        "mean": mean,
        "problems": problems,
    }
    if json_output:
        import json

        say(json.dumps(result, allow_nan=False))
    else:
        _print(result, names)


def _bounds(spec: Objective, known: Known) -> dict[str, Any]:
    """Return one problem's row; an interval is [low, high], and an end that nothing bounds is None."""
    import math

    from sharpen.theory.audit.certified import expected_reward, log_normalizer, mode_is_certain, pass_at_k
    from sharpen.theory.audit.outcomes import kl_to_base

    seen = known.seen(spec.alpha)
    bounds = {"expected_reward": expected_reward(seen, spec, binary=False)}
    bounds |= {f"pass@{k}": pass_at_k(seen, spec, k, binary=False) for k in KS}
    bounds |= {"kl_to_base": kl_to_base(known, spec), "log_z": log_normalizer(seen, spec)}
    row: dict[str, Any] = {"prompt_id": known.name, "outcomes": int(known.logprob.size)}
    row["unseen_mass"] = known.unseen_mass
    row["mode_certain"] = mode_is_certain(seen)
    row["mode_reward"] = float(known.reward[known.logprob.argmax()]) if known.logprob.size else None
    return row | {name: [end if math.isfinite(end) else None for end in ends] for name, ends in bounds.items()}


def _print(result: dict[str, Any], names: list[str]) -> None:
    console = terminal.plain_console()
    console.print(f"{result['regime']}: {result['n']} problems, certain bounds of the optimum")
    names = [name for name in names if name != f"pass@{KS[0]}"]  # what fits into 80 columns
    titles = {"expected_reward": "E[r]", "kl_to_base": "KL to base", "log_z": "log Z"}
    table = terminal.number_table(["problem", "seen", *(titles.get(name, name) for name in names)])
    for row in result["problems"][:LISTED]:
        table.add_row(_short(row["prompt_id"]), str(row["outcomes"]), *(_cell(row[name]) for name in names))
    table.add_row("mean", "", *(_cell(result["mean"][name]) for name in names))
    console.print(table)
    if result["n"] > LISTED:
        console.print(f"and {result['n'] - LISTED} problems more, in --json")
    mean = result["mean"]
    console.print(
        f"unseen mass under the base {mean['unseen_mass']:.3g}; the mode is certain for {mean['mode_certain']:.1%}"
    )


def _short(name: str) -> str:
    return name if len(name) <= 9 else "…" + name[-8:]


def _cell(ends: list[float | None] | None) -> str:
    if ends is None:
        return "no bound"
    low, high = ends
    return f"{low:.3f} {high:.3f}" if low is not None and high is not None else "no bound"

"""``sharpen theory … --problems``: what a model's known outcomes say, with certain bounds where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.audit.outcomes import Known

KNOWN = "Known outcomes"  # panel of the help
Problems = Annotated[
    Path | None,
    typer.Option(
        help="outcomes.parquet of sharpen llm outcomes instead of --base.", show_default=False, rich_help_panel=KNOWN
    ),
]
OneProblem = Annotated[
    str | None,
    typer.Option(
        "--problem",
        help="Of --problems this one: its prompt_id, or how no other ends.",
        show_default=False,
        rich_help_panel=KNOWN,
    ),
]
KS = (4, 16)  # of pass@k
ROUNDING = 1e-12  # of pass@k: what is apart by less is not ahead
OUTCOMES = "outcomes that were found and the mass that was not"
LISTED = 20  # problems in the table; --json has all


def instead_of(file: Path | None, one: str | None, outcomes: options.ProblemFlags, **others: Any) -> None:
    """Refuse flags that nothing reads beside --problems, and --problem without it.

    Raises:
        InputError: there is one.
    """
    options.refuse_without("problem", one, "problems", file)
    flags = {"base": outcomes.base, "reward": outcomes.reward, "length": outcomes.length, **others}
    options.only_where(file is None, "one problem, without --problems", **flags)


def chosen_of(file: Path, one: str | None) -> list[Known]:
    """Return the known outcomes of all problems of a file, or of the one that is named.

    Raises:
        InputError: the file cannot be used, or does not have one problem of this name.
    """
    from sharpen.theory.audit.outcomes import known_of, read_known

    found = read_known(file)
    if one is None:
        return found
    ends = [known.name for known in found if known.name.endswith(one)]
    return known_of(found, [ends[0] if len(ends) == 1 else one])


def single(file: Path, one: str | None) -> Known:
    """Return the known outcomes of one problem.

    Raises:
        InputError: the file cannot be used, or has several and none is named.
    """
    from sharpen.objective import InputError

    found = chosen_of(file, one)
    if len(found) > 1:
        raise InputError("problem", None, f"one of the {len(found)} problems of {file}: {found[0].name}, …")
    return found[0]


def left_out(known: Known) -> str:
    """Return what is said where nothing bounds a number: that it is of the seen outcomes alone."""
    return (
        f"on the {known.logprob.size} outcomes that were seen of {known.name}; the frontier, {known.unseen_mass:.3g} "
        "of the base's mass, is left out"
    )


def report_response(
    spec: Objective, known: Sequence[Known], over: str, grid: Sequence[float], json_output: bool
) -> None:
    """Print certain bounds of the optimum's E[r], the mean over problems, at each value of alpha or beta_inv.

    Raises:
        InputError: nothing bounds this objective's optimum at one of the values.
    """
    import numpy as np

    from sharpen.theory.audit.certified import expected_reward

    rows = []
    for value in grid:
        at = spec.model_copy(update={over: float(value)})
        ends = np.mean([expected_reward(one.seen(at.alpha), at, binary=False) for one in known], axis=0)
        rows.append({over: float(value), "low": float(ends[0]), "high": float(ends[1])})
    mass = float(np.mean([one.unseen_mass for one in known]))
    if json_output:
        import json

        report = {"objective": spec.to_dict(), "regime": spec.regime, "n": len(known), "over": over}
        say(json.dumps(report | {"expected_reward": rows, "unseen_mass": mass}, allow_nan=False))
        return
    console, table = terminal.plain_console(), terminal.number_table([over, "E[r] at least", "at most"])
    terminal.introduce(f"Between what the optimum's expected reward E[r] must lie, from the {OUTCOMES}.")
    console.print(f"E[r] of the optimum against {over}, certain bounds: {_of(known)}")
    for row in rows:
        table.add_row(f"{row[over]:.6g}", f"{row['low']:.6g}", f"{row['high']:.6g}")
    console.print(table)
    console.print(f"unseen mass under the base {mass:.3g}; nothing bounds derivatives and turns")


def report_coverage(spec: Objective, known: Sequence[Known], ks: Sequence[int], k_max: int, json_output: bool) -> None:
    """Print certain bounds of pass@k of the base and of the optimum, means over problems, and of the crossover.

    Raises:
        InputError: nothing bounds this objective's optimum, or a k is below 1.
    """
    import numpy as np

    from sharpen.objective import Objective
    from sharpen.theory.audit.certified import pass_at_k

    policies = {"base": Objective(alpha=1.0), "optimum": spec}

    def bounds(name: str, k: int) -> list[float]:
        at = policies[name]
        return np.mean([pass_at_k(one.seen(at.alpha), at, k, binary=False) for one in known], axis=0).tolist()

    rows: list[dict[str, Any]] = [{"k": k} | {name: bounds(name, k) for name in policies} for k in ks]
    # Doubling, not every k: the first of these from which on it is certain, not the first k at all.
    doubled = [2**step for step in range(k_max.bit_length()) if 2**step <= k_max]
    ahead = next((k for k in doubled if bounds("base", k)[0] > bounds("optimum", k)[1] + ROUNDING), None)
    mass = float(np.mean([one.unseen_mass for one in known]))
    if json_output:
        import json

        report = {"objective": spec.to_dict(), "regime": spec.regime, "n": len(known), "pass_at_k": rows}
        say(json.dumps(report | {"base_ahead_by": ahead, "unseen_mass": mass}, allow_nan=False))
        return
    console = terminal.plain_console()
    terminal.introduce(f"Between what pass@k of base and optimum must lie, from the {OUTCOMES}.")
    console.print(f"{spec.regime}: certain bounds of pass@k, {_of(known)}")
    table = terminal.number_table(["k", "base at least", "at most", "optimum at least", "at most"])
    for row in rows:
        table.add_row(str(row["k"]), *(f"{end:.4f}" for name in policies for end in row[name]))
    console.print(table)
    where = f"for certain at k = {ahead:,}" if ahead is not None else f"for certain at no power of 2 up to {k_max:,}"
    console.print(f"base pass@k above the optimum's: {where}")
    console.print(f"unseen mass under the base {mass:.3g}; maj@k is left out: votes are not known")


def _of(known: Sequence[Known]) -> str:
    return known[0].name if len(known) == 1 else f"mean of {len(known)} problems"


def report_known(spec: Objective, found: Sequence[Known], json_output: bool) -> None:
    """Print bounds of E[r], pass@k, KL and log Z of the optimum, by problem and in the mean.

    Raises:
        InputError: nothing bounds this objective's optimum.
    """
    import numpy as np

    problems = [_bounds(spec, known) for known in found]
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
    terminal.introduce(
        f"Between what the optimum's measures must lie, from the {OUTCOMES}. E[r]: expected reward; KL to base and "
        "log Z (the normaliser of p^alpha): in nats."
    )
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

"""Where the experiments and their runs stand."""

from __future__ import annotations

from typing import Any

from sharpen.paper_repro.grids.grid import Grid
from sharpen.paper_repro.grids.plan import CostModel, expand
from sharpen.paper_repro.grids.store import Store

WORST_FIRST = ("failed", "running", "partial", "missing", "stale-settings", "stale-code", "done")


def experiments(grid: Grid, scale: str, store: Store) -> list[dict[str, Any]]:
    """Return one row an experiment of a scale.

    Returns:
        ``id``, ``scale``, ``kind``, ``title``, ``claim`` (the ids of its claims, separated by commas), ``claims``
        (their statements by id), ``runs`` (their number), ``done`` (how many), ``states`` (number of runs by state),
        ``status``: ``done``, ``missing``, or the states that there are.
    """
    states: dict[str, list[str]] = {}
    for run in expand(grid, scale):
        states.setdefault(run.experiment.id, []).append(store.state(run))
    rows = []
    for experiment in grid.of_scale(scale):
        own = states.get(experiment.id, [])
        counts = {state: own.count(state) for state in WORST_FIRST if state in own}
        rows.append(
            {
                "id": experiment.id,
                "scale": scale,
                "kind": experiment.kind,
                "title": experiment.title,
                "claim": ", ".join(experiment.claims),
                "claims": {claim: grid.claims[claim].strip() for claim in experiment.claims},
                "runs": len(own),
                "done": counts.get("done", 0),
                "states": counts,
                "status": next(iter(counts), "missing") if len(counts) < 2 else _mixed(counts),
            }
        )
    return rows


def _mixed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def run_rows(grid: Grid, scale: str, store: Store) -> list[dict[str, Any]]:
    """Return one row a run of a scale: ``id``, ``arm``, ``seed``, ``experiment``, ``scale``, ``status``, ``command``.

    Args:
        grid: The experiments.
        scale: Their scale.
        store: Their results.
    """
    return [
        {
            "id": run.id,
            "arm": run.arm,
            "seed": run.seed,
            "experiment": run.experiment.id,
            "scale": scale,
            "status": store.state(run),
            "command": run.command,
        }
        for run in expand(grid, scale)
    ]


def standing(grid: Grid, scale: str, store: Store) -> dict[str, Any]:
    """Return ``total`` and ``done`` runs, their ids by state under ``states``, and ``seconds_left`` on one core.

    ``seconds_left`` is None at the paper's scale, whose cost nothing here has measured.
    """
    runs = expand(grid, scale)
    cost = CostModel(grid.rates, store.everything())
    states: dict[str, list[str]] = {}
    left = 0.0
    for run in runs:
        state = store.state(run)
        states.setdefault(state, []).append(run.id)
        left += 0.0 if state == "done" else cost.seconds(run)
    ordered = {state: states[state] for state in WORST_FIRST if state in states}
    seconds = None if scale == "paper" else round(left)
    return {"scale": scale, "total": len(runs), "done": len(states.get("done", [])), "states": ordered} | {
        "seconds_left": seconds
    }

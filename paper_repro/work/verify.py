"""Recompute a sample of results and compare."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sharpen.objective.storage import files, runfolder
from sharpen.paper_repro.grids.plan import CostModel, Run
from sharpen.paper_repro.grids.store import Store, rounded
from sharpen.paper_repro.work.dispatch import computed
from sharpen.paper_repro.work.older import computed_by

# One thread, one seed, one version of everything gives the same bits. Another processor or library rounds differently,
# and a different rounding is another sampled token sooner or later: then only means agree.
RELATIVE, ABSOLUTE = 1e-4, 1e-6
MEANS = 0.1  # of pass@1, at other versions or on other hardware


@dataclass(frozen=True)
class Check:
    """One result recomputed.

    Args:
        run: Its id.
        identical: Whether everything is the same, to the last digit that is kept.
        same: Whether every number agrees within rounding.
        close: Whether means of pass@1 agree within ``MEANS`` (models), or ``same`` (theory and toy).
        differing: Where numbers differ, at most ten places, with both values.
        largest: Largest absolute difference of two numbers.
        proof: What the recomputed result is identical with: ``stored``, the stored one, or ``older code``, what the
            commit that the stored one comes from computes on this machine; None if with neither, or not asked.
    """

    run: str
    identical: bool
    same: bool
    close: bool
    differing: list[str]
    largest: float
    proof: Literal["stored", "older code"] | None = None


def choose_sample(runs: Sequence[Run], store: Store, cost: CostModel, count: int, seed: int) -> list[Run]:
    """Return ``count`` runs of every kind, or all that have results: the cheapest, then others of other arms at random.

    Args:
        runs: Of a scale.
        store: Their results.
        cost: What each would take.
        count: How many of each kind.
        seed: Of the draw.
    """
    known = store.current(list(runs))
    have = [run for run in runs if run.id in known]
    random.Random(seed).shuffle(have)
    chosen = []
    for kind in dict.fromkeys(run.experiment.kind for run in runs):
        own = [run for run in have if run.experiment.kind == kind]
        cheapest = [min(own, key=cost.seconds)] if own else []
        order = cheapest + [run for run in own if run not in cheapest]
        arms = list(dict.fromkeys(run.arm for run in order))
        seen = [next(run for run in order if run.arm == arm) for arm in arms]
        chosen += (seen + [run for run in order if run not in seen])[:count]
    return chosen


def verify(
    runs: Sequence[Run],
    store: Store,
    *,
    adopt: bool = False,
    report: Callable[[Check], None] = lambda check: None,
    affected: Sequence[Run] = (),
) -> list[Check]:
    """Recompute runs from nothing and compare them with what is stored, number by number.

    Args:
        runs: Runs with results.
        store: Their results.
        adopt: If for every recomputed run of a kind there is a proof, give all results of that kind among ``affected``
            whose settings are unchanged the present code's hash: the code changed, its numbers did not. Each of them
            records from which code and commit to which, and which runs were the sample. A result that is close, but not
            identical, is computed once more by the commit that it comes from.
        report: Told about each check.
        affected: What may be adopted.
    """
    checks, kinds = [], {}
    for run in runs:
        stored = store.read(run)
        assert stored is not None
        with files.scratch(store.work / f"verify-{run.id}", "work") as folder:
            again = rounded(computed(run, folder))
            check = compare_results(run.id, stored["result"], again["result"])
            if adopt and check.close and not check.identical:
                older = computed_by(_commit(stored), run, folder / "older")
                same = older is not None and older["result"] == again["result"]
                check = replace(check, proof="older code" if same else None)
        checks.append(check)
        kinds.setdefault(run.experiment.kind, []).append(check)
        report(check)
    if adopt:
        commit = runfolder.provenance()["commit"]
        for run in affected:
            own = kinds.get(run.experiment.kind, [])
            if own and all(check.proof for check in own) and store.state(run) == "stale-code":
                _adopt(run, store, commit, {check.run: check.proof for check in own})
    return checks


def _adopt(run: Run, store: Store, commit: str | None, witnesses: Mapping[str, str | None]) -> None:
    result = store.read(run)
    assert result is not None
    history = result["provenance"].setdefault("adopted", [])
    history.append(
        {
            "from": result["code_hash"],
            "to": run.code_hash,
            "commit_from": _commit(result),
            "commit_to": commit,
            "because_identical": dict(witnesses),
        }
    )
    store.write(run, {**result, "code_hash": run.code_hash})


def _commit(result: Mapping[str, Any]) -> str:
    """Return the commit whose code is known to give a result's numbers."""
    provenance = result["provenance"]
    return (provenance.get("adopted") or [{"commit_to": provenance["commit"]}])[-1]["commit_to"] or "none"


def compare_results(name: str, stored: Any, again: Any) -> Check:
    """Return how two results differ, number by number."""
    places: list[tuple[str, Any, Any]] = []
    _walk("", stored, again, places)
    gaps = [abs(a - b) for _, a, b in places if _is_number(a) and _is_number(b)]
    differing = [f"{place}: {a} and {b}" for place, a, b in places[:10]]
    same = not places
    means = (_accuracy(stored), _accuracy(again))
    close = same if means[0] is None or means[1] is None else abs(means[0] - means[1]) <= MEANS
    identical = stored == again
    return Check(name, identical, same, close, differing, max(gaps, default=0.0), "stored" if identical else None)


def _walk(place: str, a: Any, b: Any, found: list[tuple[str, Any, Any]]) -> None:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            _walk(f"{place}.{key}".lstrip("."), a.get(key), b.get(key), found)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            _walk(f"{place}[{index}]", left, right, found)
    elif _is_number(a) and _is_number(b):
        if not math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE):  # pyright: ignore[reportArgumentType]
            found.append((place, a, b))
    elif a != b:
        found.append((place, a, b))


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _accuracy(result: Mapping[str, Any]) -> float | None:
    """Return the mean pass@1 of a model's final checkpoint, None for theory and toy."""
    checkpoints = result.get("checkpoints")
    if checkpoints is None:
        return None
    table = next(iter(checkpoints.get("last", checkpoints.get("base"))["problems"].values()))
    return sum(table["correct"]) / (len(table["correct"]) * table["samples"])

"""The committed results of the embedded scale: recomputed in part, and whole in what is written about them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sharpen.paper_repro.analysis.evidence import by_model
from sharpen.paper_repro.analysis.verdict import judge
from sharpen.paper_repro.grids.grid import load_grid
from sharpen.paper_repro.grids.plan import Run, expand
from sharpen.paper_repro.grids.store import Store, rounded
from sharpen.paper_repro.work import theory as work_theory
from sharpen.paper_repro.work.verify import MEANS, compare_results, verify

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "paper_repro" / "results" / "embedded"
REPORT = RESULTS / "report"
MOST_BYTES = 8 * 2**20


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return expand(load_grid(), "embedded")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(RESULTS, tmp_path_factory.mktemp("work"))


@pytest.mark.parametrize("compute", sorted(work_theory.COMPUTATIONS))
def test_exact_results_come_out_again(compute: str, runs: list[Run], store: Store) -> None:
    """Number by number to 1e-4 relative, 1e-6 absolute: other processors may round differently."""
    (run,) = [run for run in runs if run.id == f"theory-{compute}"]
    stored = store.read(run)
    assert stored is not None
    again = work_theory.COMPUTATIONS[compute](folder=Path(), seed=0, **run.settings["arguments"])
    check = compare_results(run.id, stored["result"], rounded(again))
    assert check.same, check.differing


@pytest.mark.slow
def test_a_result_of_the_language_model_comes_out_again(runs: list[Run], store: Store) -> None:
    """128 problems x 16 samples of the base model, seed 1: the same settings and pass@1 within the stated tolerance.

    With the versions and the processor that computed it all numbers agree; elsewhere a sum rounds differently, sooner
    or later another token is drawn, and only means agree.
    """
    (run,) = [run for run in runs if run.id == "base-s1"]
    assert run.id in store.current([run]), "the committed result has other settings"
    (check,) = verify([run], store)
    assert check.close, f"pass@1 differs by more than {MEANS}: {check.differing[:3]}"


def test_every_result_belongs_to_a_declared_run_and_says_where_it_comes_from(runs: list[Run], store: Store) -> None:
    declared = {run.id: run for run in runs}
    results = list(store.everything())
    assert {result["id"] for result in results} <= declared.keys()
    for result in results:
        origin = result["provenance"]
        assert origin["commit"]
        assert origin["seconds"] > 0
        assert origin["hardware"]["cores"] >= 1
        assert origin["versions"]["numpy"]
        assert origin["command"].endswith(f"--run {result['id']}")
        assert result["settings_hash"] == declared[result["id"]].settings_hash
    assert sum(file.stat().st_size for file in RESULTS.rglob("*") if file.is_file()) < MOST_BYTES


def test_committed_verdicts_follow_from_the_committed_results(runs: list[Run], store: Store) -> None:
    evidences = by_model(store.current(runs))
    found = rounded([verdict.to_dict() for verdict in judge(load_grid(), evidences)])
    assert json.loads((REPORT / "verdicts.json").read_text(encoding="utf-8")) == found


def test_committed_figures_have_their_data_beside_them() -> None:
    figures = sorted((REPORT / "figures").glob("*.pdf"))
    assert len(figures) >= 5
    for figure in figures:
        assert list(csv.DictReader(figure.with_suffix(".csv").open(encoding="utf-8")))
        assert figure.with_suffix(".txt").read_text(encoding="utf-8").strip()
        gallery = ROOT / "figures" / "gallery" / f"{figure.stem}.png"
        assert gallery.read_bytes() == figure.with_suffix(".png").read_bytes()

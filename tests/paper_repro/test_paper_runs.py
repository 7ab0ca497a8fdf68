"""Grid, plan, store and pool: what is computed, when, and what a kill, a deletion or a change of code does to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sharpen.objective import InputError
from sharpen.objective.storage import runfolder
from sharpen.paper_repro.grids.grid import Rates, load_grid
from sharpen.paper_repro.grids.plan import CostModel, Run, choose, expand, within_budget
from sharpen.paper_repro.grids.resources import block
from sharpen.paper_repro.grids.store import Store, open_store, rounded
from sharpen.paper_repro.work.pool import _preloaded, gpus_of, run_local, run_on_ray, slurm_scripts
from sharpen.paper_repro.work.verify import choose_sample, compare_results, verify

SHARPEN = str(Path(sys.executable).with_name("sharpen"))
SMALL: dict[str, Any] = {
    "claims": {"c": "a claim"},
    "rates": {"train": 1e-3, "sample": 1e-3, "start": 1.0},
    "experiments": [
        {
            "id": "theory-published",
            "kind": "theory",
            "compute": "published",
            "claims": ["c"],
            "title": "t",
            "seconds": 1,
        },
        {"id": "theory-modes", "kind": "theory", "compute": "modes", "claims": ["c"], "title": "t", "seconds": 2},
    ],
}
MODEL: dict[str, Any] = {
    "id": "model",
    "kind": "train",
    "claims": ["c"],
    "title": "t",
    "settings": {
        "model": "embedded",
        "engine": "transformers",
        "device": "cpu",
        "max_length": 32,
        "steps": 4,
        "prompts_per_step": 2,
        "samples_per_prompt": 2,
        "checkpoint_every": 2,
        "evaluation": {"problems": 2, "samples": 1, "alpha_prompts": 0},
    },
    "objectives": [{"mode": "optimization", "alpha": 1, "beta_inv": 0}],
    "evaluate": [{"data": "embedded", "problems": 4, "samples": 2}],
    "seeds": [1],
}


def written(folder: Path, *more: dict[str, Any]) -> Path:
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "experiments": [*SMALL["experiments"], *more]}))
    return file


@pytest.fixture
def small(tmp_path: Path) -> tuple[list[Run], Store]:
    return expand(load_grid(written(tmp_path)), "embedded"), Store(tmp_path / "results", tmp_path / "work")


FREE = CostModel(Rates(train=1e-3, sample=1e-3, start=1.0))


def paper(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    places = ["--grid", str(folder / "grid.yaml"), "--results", str(folder / "results"), "--work", str(folder / "work")]
    return subprocess.run([SHARPEN, "paper", *arguments, *places], capture_output=True, text=True, check=False)


# --- the declared grid ---------------------------------------------------------------------------------------------


def test_the_grid_has_the_paper_s_regimes_at_the_embedded_scale() -> None:
    runs = [run for run in expand(load_grid(), "embedded") if run.experiment.kind == "train"]
    found = {
        (o["mode"], o["alpha"], o["beta_inv"], run.settings["config"]["ignore_eos"])
        for run in runs
        if (o := run.settings["config"]["objective"])["normalization"] == "sum"
    }
    sampling = [("sampling", a, b) for a in (0.5, 1.0, 1.25, 2.0, 4.0) for b in (0.0, 100.0, 10000.0)]
    points = [("optimization", 1.0, 0.0), ("optimization", 0.0, 1.0), *sampling]
    assert found == {(*point, fixed) for point in points for fixed in (False, True)}
    seeds: dict[str, set[int]] = {}
    for run in runs:
        seeds.setdefault(run.arm, set()).add(run.seed)
    assert min(len(own) for own in seeds.values()) >= 3
    assert {"mean", "weighted_mean"} <= {run.settings["config"]["objective"]["normalization"] for run in runs}


def test_the_paper_s_grid_has_every_recipe_once() -> None:
    from sharpen.llm.configs.recipes import names

    arms = {run.arm for run in expand(load_grid(), "paper") if run.experiment.kind == "train"}
    assert arms == {name.replace("/", "_") for name in names() if not name.startswith("embedded/")}


def test_every_arm_that_the_verdict_names_is_declared() -> None:
    from sharpen.paper_repro.analysis.rules_llm import NULL, SHARPENING, TASK, TEMPERED

    arms = {run.arm for run in expand(load_grid(), "embedded")}
    assert {TASK, SHARPENING, TEMPERED, NULL, f"{TEMPERED}-fixed", f"{SHARPENING}-mean", "power-4", "base"} <= arms


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "theory", "compute": None}, "compute"),
        ({"claims": ["unknown"]}, "unknown"),
        ({"kind": "train"}, "objectives or recipes"),
        ({"seeds": []}, "seeds"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_wrong_grid_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "experiments": [{**SMALL["experiments"][0], **change}]}))
    with pytest.raises(InputError, match=message):
        load_grid(file)


def test_names_that_name_nothing_are_refused(small: tuple[list[Run], Store]) -> None:
    with pytest.raises(InputError, match="nope"):
        choose(small[0], ["nope"], [])
    assert [run.id for run in choose(small[0], [], ["theory-modes"])] == ["theory-modes"]


# --- what identifies a result --------------------------------------------------------------------------------------


def test_a_new_setting_with_a_default_leaves_results_valid() -> None:
    """The hash takes the settings that differ from their defaults; a changed one changes it."""
    first, second = (
        expand(load_grid(), "embedded")[3],
        next(run for run in expand(load_grid(), "embedded") if run.arm == "sharpening-1-0"),
    )
    assert "epsilon" not in json.dumps(first.identity)
    assert first.settings["config"]["optimizer"]["epsilon"] == 1e-8
    assert first.settings_hash != second.settings_hash


def test_a_checkout_keeps_its_results_in_the_repository() -> None:
    assert open_store("embedded").results == Path(__file__).parents[2] / "paper_repro" / "results" / "embedded"


# --- budget and cost -----------------------------------------------------------------------------------------------


def test_a_budget_takes_runs_in_order(small: tuple[list[Run], Store]) -> None:
    runs, _ = small
    assert within_budget(runs, FREE, 1.5, 1) == runs[:1]
    assert within_budget(runs, FREE, 1.5, 2) == runs
    assert within_budget(runs, FREE, 0.5, 1) == []
    assert within_budget(runs, FREE, None, 1) == runs


def test_the_cost_model_learns_from_results(tmp_path: Path) -> None:
    (run,) = [r for r in expand(load_grid(written(tmp_path, MODEL)), "embedded") if r.experiment.kind == "train"]
    units = run.tokens["trained"] + 0.35 * run.tokens["evaluated"]
    assert FREE.seconds(run) == pytest.approx(1.0 + 1e-3 * units)
    earlier = {"id": "x", "kind": "train", "expected_tokens": run.tokens, "provenance": {"cpu_seconds": 31.0}}
    assert CostModel(Rates(train=1e-3, sample=1e-3, start=1.0), [earlier]).seconds(run) == pytest.approx(31.0)


# --- computing -----------------------------------------------------------------------------------------------------


def test_a_second_run_does_nothing_and_a_deleted_result_is_computed_again(tmp_path: Path) -> None:
    written(tmp_path)
    first = paper("run", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    files = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "results").glob("*.json")}
    assert set(files) == {"theory-published.json", "theory-modes.json"}
    second = paper("run", folder=tmp_path)
    assert second.returncode == 0
    assert "nothing to do" in second.stderr
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "results").glob("*.json")} == files
    (tmp_path / "results" / "theory-modes.json").unlink()
    listed = json.loads(paper("list", "--scale", "embedded", "--json", folder=tmp_path).stdout)["experiments"]
    assert [(row["id"], row["status"], row["claim"]) for row in listed] == [
        ("theory-published", "done", "c"),
        ("theory-modes", "missing", "c"),
    ]
    third = paper("run", folder=tmp_path)
    assert "computing 1 of 1" in third.stderr
    again = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "results").glob("*.json")}
    assert again["theory-published.json"] == files["theory-published.json"]
    assert again["theory-modes.json"] != files["theory-modes.json"]


def test_other_settings_and_other_code_are_stale(
    small: tuple[list[Run], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, store = small
    assert [store.state(run) for run in runs] == ["missing", "missing"]
    assert run_local(runs[1:], store, jobs=1, cost=FREE) == []
    assert [store.state(run) for run in runs] == ["missing", "done"]
    monkeypatch.setattr("sharpen.paper_repro.grids.plan.code_version", lambda kind: "other")
    assert store.state(runs[1]) == "stale-code"
    changed = Run(runs[1].id, runs[1].arm, runs[1].experiment, 1, runs[1].settings, {"another": 1})
    assert store.state(changed) == "stale-settings"
    assert store.current([changed]) == {}


def test_a_failed_run_takes_no_other_along(small: tuple[list[Run], Store]) -> None:
    runs, store = small
    broken = Run("broken", "broken", runs[0].experiment, 0, {**runs[0].settings, "compute": "nope"}, {"x": 1})
    failed = run_local([broken, runs[1]], store, jobs=2, cost=FREE)
    assert [run.id for run in failed] == ["broken"]
    assert store.state(broken) == "failed"
    assert "KeyError" in store.error(broken).read_text()
    assert store.state(runs[1]) == "done"


def test_a_run_that_another_process_computes_is_left_alone(small: tuple[list[Run], Store]) -> None:
    runs, store = small
    events: list[str] = []
    with store.held(runs[0]) as mine:
        assert mine
        assert store.state(runs[0]) == "running"
        run_local(runs[:1], store, jobs=1, cost=FREE, report=lambda run, event: events.append(event))
    assert events == ["started", "running elsewhere"]
    assert store.state(runs[0]) == "missing"


@pytest.mark.slow
def test_kill_and_continue_gives_the_same_result(tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    """kill -9 after the first checkpoint; the next call goes on from it and ends with the bits of an unbroken run."""
    file = written(tmp_path, MODEL)
    arguments = [SHARPEN, "paper", "run", "--grid", str(file), "--results", str(tmp_path / "results")]
    arguments += ["--work", str(tmp_path / "work"), "--run", "sharpening-1-0-s1"]
    process = spawn(arguments, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "work").glob("*/train/checkpoints/step_000002")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (run,) = choose(expand(load_grid(file), "embedded"), ["sharpening-1-0-s1"], [])
    store = Store(tmp_path / "results", tmp_path / "work")
    while store.state(run) == "running" and time.monotonic() < deadline:
        time.sleep(0.05)  # a killed process lets go of its lock when the kernel has come round to it
    assert store.state(run) == "partial"
    assert subprocess.run(arguments, stderr=subprocess.DEVNULL).returncode == 0
    assert store.state(run) == "done"
    assert not store.folder(run).exists()
    (check,) = verify([run], store)
    assert check.same, check.differing
    stored = store.read(run)
    assert stored is not None
    assert stored["provenance"]["tokens"]["trained"] > 0
    assert len(stored["result"]["training"]["response_length"]) == 4
    assert {"commit", "versions", "hardware", "seconds", "command", "seed"} <= stored["provenance"].keys()


def test_ray_gives_the_same_result(small: tuple[list[Run], Store], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    runs, store = small
    assert run_on_ray(runs[:1], store, "local") == []
    other = Store(tmp_path / "here", tmp_path / "work-here")
    assert run_local(runs[:1], other, jobs=1, cost=FREE) == []
    ours, theirs = (one.read(runs[0]) for one in (store, other))
    assert ours is not None
    assert theirs is not None
    assert ours["result"] == theirs["result"]


# --- verify --------------------------------------------------------------------------------------------------------


def test_verify_finds_a_changed_number(small: tuple[list[Run], Store]) -> None:
    runs, store = small
    run_local(runs, store, jobs=2, cost=FREE)
    assert [check.same for check in verify(runs, store)] == [True, True]
    file = store.file(runs[1])
    result = json.loads(file.read_text())
    result["result"]["mean"]["supremum"] += 1e-3
    file.write_text(json.dumps(result))
    (check,) = verify(runs[1:], store)
    assert not check.same
    assert not check.close
    assert check.differing[0].startswith("mean.supremum")


def test_adopting_needs_the_same_numbers(small: tuple[list[Run], Store]) -> None:
    runs, store = small
    run_local(runs, store, jobs=2, cost=FREE)
    for run in runs:
        result = json.loads(store.file(run).read_text())
        store.file(run).write_text(json.dumps({**result, "code_hash": "older"}))
    verify(runs[:1], store, adopt=True, affected=runs)
    assert [store.state(run) for run in runs] == ["done", "done"]
    adopted = store.read(runs[1])
    assert adopted is not None
    (record,) = adopted["provenance"]["adopted"]
    assert (record["from"], record["to"]) == ("older", runs[1].code_hash)
    assert record["because_identical"] == {"theory-published": "stored"}
    assert record["commit_from"] == adopted["provenance"]["commit"]
    assert record["commit_to"] == runfolder.provenance()["commit"]


@pytest.mark.parametrize("change", [0.5, 1e-6])
def test_adopting_needs_identical_numbers_of_the_whole_sample(small: tuple[list[Run], Store], change: float) -> None:
    """The second change is within the rounding that a comparison across machines allows."""
    runs, store = small
    run_local(runs, store, jobs=2, cost=FREE)
    for run in runs:
        result = json.loads(store.file(run).read_text())
        if run.id == "theory-published":
            result["result"]["rows"][0]["ours"][0] += change
        result["provenance"]["commit"] = "0" * 40  # this checkout does not have it
        store.file(run).write_text(json.dumps({**result, "code_hash": "older"}))
    checks = verify(runs, store, adopt=True, affected=runs)
    assert [check.identical for check in checks] == [False, True]
    assert checks[0].same is (change < 1e-4)
    assert [store.state(run) for run in runs] == ["stale-code", "stale-code"]


@pytest.mark.slow
def test_last_digits_of_another_processor_are_proved_by_the_older_code(tmp_path: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    if head.returncode:
        pytest.skip("no git checkout")
    (run,) = choose(expand(load_grid(), "embedded"), ["theory-modes"], [])
    store = Store(tmp_path / "results", tmp_path / "work")
    assert run_local([run], store, jobs=1, cost=FREE) == []
    result = json.loads(store.file(run).read_text())
    result["result"]["mean"]["supremum"] *= 1 + 2e-5
    result["provenance"]["commit"] = head.stdout.strip()
    store.file(run).write_text(json.dumps({**result, "code_hash": "older"}))
    (check,) = verify([run], store)
    assert (check.identical, check.same, check.proof) == (False, True, None)
    (check,) = verify([run], store, adopt=True, affected=[run])
    assert check.proof == "older code"
    adopted = store.read(run)
    assert adopted is not None
    assert adopted["provenance"]["adopted"][0]["because_identical"] == {"theory-modes": "older code"}
    assert store.state(run) == "done"


def test_a_kind_that_was_not_sampled_is_not_adopted(tmp_path: Path) -> None:
    toy = {"id": "toy-support", "kind": "toy", "compute": "support", "claims": ["c"], "title": "t", "seconds": 1}
    runs = expand(load_grid(written(tmp_path, toy)), "embedded")
    store = Store(tmp_path / "results", tmp_path / "work")
    assert run_local(runs[:2], store, jobs=1, cost=FREE) == []
    stored = store.read(runs[1])
    assert stored is not None
    store.write(runs[1], {**stored, "code_hash": "older"})
    store.write(runs[2], {**stored, "code_hash": "older", "kind": "toy", "settings_hash": runs[2].settings_hash})
    verify(runs[:1], store, adopt=True, affected=runs)
    assert [store.state(run) for run in runs] == ["done", "done", "stale-code"]


def test_a_sample_takes_every_kind_and_as_many_arms_as_it_can() -> None:
    runs = expand(load_grid(), "embedded")
    store = open_store("embedded")
    cost = CostModel(load_grid().rates, store.everything())
    for count in (1, 4):
        chosen = choose_sample(runs, store, cost, count, 0)
        kinds = [run.experiment.kind for run in chosen]
        assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(("theory", "toy", "sample", "train"), count)
        assert len({run.arm for run in chosen}) == len(chosen)
    assert choose_sample(runs, store, cost, 4, 0) != choose_sample(runs, store, cost, 4, 1)
    everything = choose_sample(runs, store, cost, 10**6, 0)
    assert sorted(run.id for run in everything) == sorted(store.current(runs))


def test_comparison_sees_lists_of_other_lengths() -> None:
    assert not compare_results("x", {"a": [1, 2]}, {"a": [1, 2, 3]}).same
    assert compare_results("x", {"a": [1.0, None]}, {"a": [1.00000001, None]}).same


@pytest.mark.parametrize(("right", "close"), [(9, True), (4, False), (12, False)])
def test_results_of_a_model_are_close_where_their_accuracy_is(right: int, close: bool) -> None:
    """8 of 16 answers to each of two problems, and 9: a difference of 0.0625, below 0.1."""
    stored, again = (
        {"checkpoints": {"last": {"problems": {"some": {"correct": [one] * 2, "samples": 16}}}}} for one in (8, right)
    )
    found = compare_results("x", stored, again)
    assert (found.same, found.close) == (False, close)


# --- elsewhere -----------------------------------------------------------------------------------------------------


def test_slurm_arrays(tmp_path: Path) -> None:
    runs = expand(load_grid(), "paper")
    scripts = slurm_scripts(runs, ["--results", "a b"])
    assert len(scripts) == len({gpus_of(run) for run in runs})
    for script in scripts:
        file = tmp_path / "array.sh"
        file.write_text(script.replace("exec sharpen", "echo sharpen"))
        assert subprocess.run(["bash", "-n", str(file)], check=False).returncode == 0
        count = int(script.split("--array=0-")[1].split("%")[0])
        ran = subprocess.run(
            ["bash", str(file)], env={**os.environ, "SLURM_ARRAY_TASK_ID": str(count)}, capture_output=True, text=True
        )
        assert ran.returncode == 0
        assert "--scale paper --run " in ran.stdout
    assert "--gpus-per-task=4" in "".join(scripts)


def test_dry_run_of_the_paper_s_scale_names_everything() -> None:
    """One block a run: model, data, objective, steps, tokens, memory and all settings; a handful here, not all 600."""
    runs = expand(load_grid(), "paper")
    shown = [run for run in runs if run.seed == 42 and run.arm.endswith(("base", "tempered-2-0", "sharpening-1-0"))]
    blocks = {run.id: block(run, None) for run in shown}
    assert len(blocks) == 9
    for found in blocks.values():
        assert {"model", "data", "objective", "steps", "tokens", "memory", "settings"} <= found.keys()
    qwen = blocks["qwen2.5-3b_tempered-2-0-s42"]
    assert qwen["tokens"]["training, at most"] == 500 * 32 * 8 * 2048
    # 3.09 G parameters: float32 master copy and two moments are 12 bytes each, over four GPUs at least a quarter of it.
    assert 12 * 3.0e9 / 4 < qwen["memory"]["update"] < 80 * 2**30
    assert qwen["memory"]["gpus"] == 4
    assert blocks["qwen3-4b_tempered-2-0-s42"]["steps"] == 1000


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    written(tmp_path)
    for arguments in (["run", "--budget", "soon"], ["run", "--scale", "large"], ["run", "--run", "nope"], ["report"]):
        found = paper(*arguments, folder=tmp_path)
        assert found.returncode == 2, arguments
        assert found.stderr.count("\n") == 1
        assert found.stderr.startswith("error: ")


def test_rounding_keeps_six_digits_and_json() -> None:
    assert rounded({"a": (1.23456789, float("nan")), "b": True}) == {"a": [1.23457, None], "b": True}


SERVER = """
import importlib, sys, threading

for name in sys.argv[1:]:
    importlib.import_module(name)
from sharpen.paper_repro.grids.codeversion import code_version

assert threading.active_count() == 1
assert "jax" not in sys.modules  # a fork of a process that has used it may wait for ever
code_version("theory")
assert code_version.cache_info().hits == 1, "the server has hashed it"
print("torch" in sys.modules)
"""


def test_the_server_of_runs_has_their_modules_and_their_code_hash() -> None:
    runs = expand(load_grid(), "embedded")
    names = {
        kind: _preloaded([run for run in runs if run.experiment.kind == kind]) for kind in ("theory", "train", "toy")
    }
    assert names["toy"] == names["theory"]
    assert "sharpen.paper_repro.work.train" in names["train"]
    assert "sharpen.paper_repro.work.train" not in names["theory"]
    done = subprocess.run([sys.executable, "-c", SERVER, *names["theory"]], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr[-2000:]

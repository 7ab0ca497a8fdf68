"""Every kind of run: a second process on its folder is refused in one line; a killed one is not in the way."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sharpen.objective import InputError
from sharpen.objective.storage import runfolder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


HOLD = """
import sys
from pathlib import Path
from sharpen.objective.storage import lock
for file in sys.argv[1:]:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
taken = [lock.take(Path(file)) for file in sys.argv[1:]]
print(all(taken), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(*locks: Path) -> Iterator[int]:
    """Give the id of a process that holds these locks; it is killed, not ended, in the end."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, *map(str, locks)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "True\n"
        yield holder.pid
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()


def simulate(out: Path) -> None:
    from sharpen.toy.simulation.config import SimulateConfig
    from sharpen.toy.simulation.simulate import simulate

    simulate(SimulateConfig(steps=10, seeds=2, learners=("natural",)), out)


def sweep(out: Path) -> None:
    from sharpen.toy.sweeps.config import SweepConfig
    from sharpen.toy.sweeps.sweep import sweep

    sweep(SweepConfig(steps=2, seeds=2), out)


def train(out: Path) -> None:
    from sharpen.llm.configs.train import resolve
    from sharpen.llm.training.run import train

    one = {"problems": 1, "samples": 1, "alpha_prompts": 0}
    sizes = {"prompts_per_step": 2, "samples_per_prompt": 2, "max_length": 40}
    train(resolve({"steps": 1, "engine": "transformers", "evaluation": one, **sizes}), out)


def evaluate(out: Path) -> None:
    from sharpen.llm.evaluation.run import EvalConfig, run_evaluation
    from sharpen.llm.models.registry import resolve

    asked = {"data": "embedded", "template": "plain", "problems": 1, "samples": 1, "likelihoods": False}
    run_evaluation(EvalConfig(model=resolve("embedded").location, engine="transformers", **asked), out)


def sample(out: Path) -> None:
    from sharpen.llm.configs.sampling import SampleConfig
    from sharpen.llm.models.registry import resolve
    from sharpen.llm.sampling.sampling_run import run_sampling

    asked = {"method": "best-of-n", "n": 1, "data": "embedded", "template": "plain", "problems": 1, "max_length": 48}
    run_sampling(
        SampleConfig.model_validate({"model": resolve("embedded").location, "engine": "transformers", **asked}), out
    )


def pretrain(out: Path) -> None:
    from sharpen.llm.tasks.embedded import Mixture
    from sharpen.llm.tiny.pretrain import Settings, pretrain

    pretrain(Settings(hidden=32, layers=1, steps=1, batch=2, micro_batch=2), Mixture(), out)


def export(out: Path) -> None:
    from sharpen.llm.export.folder import export

    export("embedded", out)


RUNS: dict[str, Callable[[Path], None]] = {
    "toy simulate": simulate,
    "toy sweep": sweep,
    "llm train": train,
    "llm eval": evaluate,
    "llm sample": sample,
    "llm pretrain": pretrain,
    "llm export": export,
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_second_process_is_refused_and_a_killed_one_is_not_in_the_way(kind: str, tmp_path: Path) -> None:
    run, out = RUNS[kind], tmp_path / "run"
    held = tmp_path / ".run.lock" if kind == "llm export" else out / runfolder.LOCK
    with another_process(held) as pid:
        with pytest.raises(InputError, match=rf"^out: got .*process {pid} on ") as refused:
            run(out)
        assert "\n" not in str(refused.value)
        assert names(tmp_path) == (["run", "run/.lock"] if held.parent == out else [".run.lock"])
    assert held.exists()  # left by the kill
    run(out)
    assert not held.exists()
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


STATED = {  # what must come out the same, whatever happened on the way
    "toy simulate": ("summary.json",),
    "llm eval": ("records.jsonl", "evaluation.json"),
    "llm sample": ("samples.jsonl", "records.jsonl", "evaluation.json"),
    "llm pretrain": ("model.safetensors",),
    "llm export": ("model.safetensors",),
}


def refusal(run: Callable[[Path], None], out: Path) -> str | None:
    """Return the line with which a run ends; None if it ends well."""
    try:
        run(out)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", STATED)
def test_a_disk_that_is_full_at_any_write_is_one_line_and_blocks_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is made durable before it counts: each of these calls fails once, then the same command goes on."""
    run, out, whole, real = RUNS[kind], tmp_path / "run", tmp_path / "whole", os.fsync
    run(whole)
    fatal = 0
    for fatal in range(1, 100):
        calls = 0

        def full(handle: int, fatal: int = fatal) -> None:
            nonlocal calls
            calls += 1
            if calls == fatal:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(handle)

        monkeypatch.setattr(os, "fsync", full)
        told = refusal(run, out)
        if told is None:
            break
        assert "No space left on device" in told
        assert "\n" not in told
        assert str(tmp_path) in told
        assert not [name for name in names(tmp_path) if name.endswith((".part", ".lock"))]
        if kind == "llm export" and out.exists():  # the last call, after it got its name
            break
    assert fatal > 2
    for name in STATED[kind]:
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_runs_of_the_paper_have_the_same_locks(tmp_path: Path) -> None:
    from sharpen.paper_repro.grids.grid import load_grid
    from sharpen.paper_repro.grids.plan import expand
    from sharpen.paper_repro.grids.store import Store
    from sharpen.paper_repro.work.dispatch import execute

    run = next(run for run in expand(load_grid(), "embedded") if run.experiment.kind == "theory")
    store = Store(tmp_path / "results", tmp_path / "work")
    with another_process(tmp_path / "work" / f"{run.id}.lock"):
        assert store.is_running(run)
        assert not execute(run, store)
    assert not store.is_running(run)
    with store.held(run) as mine:
        assert mine

"""kill -9 at the worst moments: the same command goes on, and nothing shows that it ever stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sharpen.llm.training import metrics
from tests.forked import Forks

# One process forks one child for each life of the run; a child kills itself, with SIGKILL, so nothing of Python's
# clean-up runs. The parent has one thread, so that forking is safe.
DRIVER = '''
import os, signal, sys
from pathlib import Path
import torch
import sharpen.llm.training.final_evaluation
from sharpen.llm.training import metrics
from sharpen.llm.configs.train import resolve
from sharpen.llm.training.run import train
from sharpen.objective import preset
from sharpen.objective.storage import files

config = resolve({
    "problems": 16, "steps": 3, "prompts_per_step": 2, "samples_per_prompt": 2, "max_length": 32, "checkpoint_every": 1,
    "engine": "transformers",
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
    "evaluation": {"problems": 1, "samples": 1, "alpha_prompts": 1},
    "objective": preset("tempered", reference="refresh:2").to_dict(),
})

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def nth(owner, name, n, fatal):
    """Replace the n-th call of a function by ``fatal``, which gets the real one."""
    real, calls = getattr(owner, name), []
    def wrapped(*arguments, **options):
        calls.append(1)
        return fatal(real, *arguments, **options) if len(calls) == n else real(*arguments, **options)
    setattr(owner, name, wrapped)

def after(real, *arguments, **options):
    real(*arguments, **options)
    die()

def half_a_line(real, file, records):
    with file.open("a") as stream:
        stream.write('{"step": 2, "rew')
    die()

DEATHS = [
    lambda: nth(torch.optim.AdamW, "step", 2, die),  # in an update
    lambda: nth(files, "listing", 1, die),  # while a checkpoint is written
    lambda: nth(Path, "rename", 1, die),  # written, without its name
    lambda: nth(Path, "rename", 1, after),  # named, the older one's state not yet dropped
    lambda: nth(metrics, "append", 1, half_a_line),  # in a line of metrics.jsonl
    lambda: nth(sharpen.llm.training.final_evaluation, "_measure", 2, die),  # in the evaluation
    lambda: nth(files, "remove_listed", 1, after),  # while the checkpoints that were not chosen are deleted
    lambda: nth(Path, "replace", 2, die),  # within a file that is being replaced
]

def live(out, arm):
    pid = os.fork()
    if pid == 0:
        try:
            arm()
            train(config, out)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return os.waitpid(pid, 0)[1]

whole, parts = Path(sys.argv[1]) / "whole", Path(sys.argv[1]) / "parts"
print(live(whole, lambda: None))
for arm in DEATHS:
    print(live(parts, arm))
    print(sorted(path.name for path in (parts / "checkpoints").glob("*")), file=sys.stderr)
print(live(parts, lambda: None))
'''


@pytest.mark.slow
def test_a_run_killed_at_any_moment_equals_an_uninterrupted_one(tmp_path: Path, model_forks: Forks) -> None:
    done = model_forks.run(DRIVER, str(tmp_path), environment=os.environ)
    assert done.stdout.split() == ["0", *["9"] * 8, "0"], done.stderr[-3000:]
    assert ".step_000002." in done.stderr  # what a kill left of a checkpoint
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first, second = (load_file(out / "checkpoints" / "last" / "model.safetensors") for out in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("metrics.jsonl", "samples.jsonl"):
        records = [metrics.read(out / name) for out in (whole, parts)]
        assert len(records[0]) == len((parts / name).read_text().splitlines())
        for a, b in zip(*records, strict=True):
            assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    assert json.loads((whole / "evaluation.json").read_text()) == json.loads((parts / "evaluation.json").read_text())
    assert not list(parts.rglob("*.part"))
    assert not (parts / ".lock").exists()

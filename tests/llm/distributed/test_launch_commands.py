"""The launchers of docs/scale.md, for 1, 2 and 8 nodes: torchrun's own parser takes them, and what they start fits."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from torch.distributed.run import config_from_args, get_args_parser

from sharpen.llm.configs import recipes
from sharpen.llm.configs.train import resolve
from sharpen.llm.distributed.plan import plan

PAGE = (Path(__file__).parents[3] / "docs" / "scale.md").read_text(encoding="utf-8")
SCRIPT = next(block for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if "#SBATCH" in block)


def commands(text: str) -> list[str]:
    """Return every torchrun command of a text on one line, without what the shell makes of its output."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line[line.index("torchrun ") :].rstrip(" &") for line in joined.splitlines() if "torchrun --n" in line]


def rendered(command: str, nodes: int) -> list[str]:
    values = {"$SLURM_NNODES": str(nodes), "$SLURM_JOB_ID": "17", "$head": "node0", "$SCRATCH": "/scratch"}
    for name, value in values.items():
        command = command.replace(name, value)
    command = re.sub(r"--nnodes \d+", f"--nnodes {nodes}", command).replace("HOST", "node0")
    assert "$" not in command
    return shlex.split(command)[1:]


@pytest.mark.parametrize("nodes", [1, 2, 8])
def test_torchrun_takes_every_launcher(nodes: int) -> None:
    found = commands(PAGE)
    assert sum("--nnodes" in command for command in found) >= 2
    for command in found:
        given = get_args_parser().parse_args(rendered(command, nodes))
        assert given.module
        assert given.training_script == "sharpen.cli.main"
        launch, _, arguments = config_from_args(given)
        assert "llm" in arguments
        if "--nnodes" in command:
            assert (launch.min_nodes, launch.max_nodes, launch.nproc_per_node) == (nodes, nodes, 8)
            assert launch.rdzv_backend == "c10d"
            assert launch.rdzv_endpoint == "node0:29500"


@pytest.mark.parametrize("nodes", [1, 2, 8])
def test_what_the_launchers_start_fits(nodes: int) -> None:
    for command in commands(PAGE):
        given = get_args_parser().parse_args(rendered(command, nodes))
        processes = nodes * 8 if "--nnodes" in command else int(given.nproc_per_node)
        words = given.training_script_args
        assert words[:2] == ["llm", "train"]
        found = plan(resolve(recipes.load(words[words.index("--recipe") + 1])), processes, "h100")
        assert found.gpu_memory is not None
        assert max(found.memory.update, found.memory.rollout) < found.gpu_memory


def test_the_batch_script_is_one_that_bash_reads() -> None:
    assert subprocess.run(["bash", "-n"], input=SCRIPT, text=True, capture_output=True, timeout=60).returncode == 0
    options = [word for line in SCRIPT.splitlines() if line.startswith("#SBATCH") for word in line.split()[1:]]
    assert {"--ntasks-per-node=1", "--gpus-per-node=8", "--requeue"} <= set(options)
    assert all(option.startswith("--") for option in options)

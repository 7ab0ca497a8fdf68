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
from sharpen.paper_repro.grids.grid import load_grid
from sharpen.paper_repro.grids.plan import expand

PAGE = (Path(__file__).parents[3] / "docs" / "scale.md").read_text(encoding="utf-8")
SCRIPT = next(block for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if "#SBATCH" in block)


def commands(text: str) -> list[str]:
    """Return every torchrun command of a text on one line, without what the shell makes of its output."""
    joined = re.sub(r"\\\n\s*", "", text)
    mine = [line for line in joined.splitlines() if "torchrun --n" in line or "torchrun --standalone" in line]
    return [line[line.index("torchrun ") :].rstrip(" &") for line in mine]


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


@pytest.mark.parametrize("nodes", [1, 2, 8])
def test_ray_takes_every_command(nodes: int) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray.dashboard.modules.job.cli import submit
    from ray.scripts.scripts import start

    lines = [line.strip().replace("HOST", "node0") for line in PAGE.splitlines() if line.startswith("    ray ")]
    started = [line for line in lines if line.startswith("ray start")]
    head, *others = [shlex.split(line)[2:] for line in started[:1] + started[1:] * (nodes - 1)]
    given = start.make_context("start", head).params
    assert given["head"]
    address = f"node0:{given['port']}"
    for words in others:
        joined = start.make_context("start", words).params
        assert (joined["head"], joined["address"]) == (False, address)
        assert joined["num_gpus"] == given["num_gpus"] == 8
    assert f"--ray {address}" in PAGE.replace("HOST", "node0")
    (job,) = [line for line in lines if line.startswith("ray job submit")]
    asked = submit.make_context("submit", shlex.split(job)[3:]).params
    torchrun, *words = asked["entrypoint"]
    assert torchrun == "torchrun"
    launch, _, _ = config_from_args(get_args_parser().parse_args(words))
    assert launch.nproc_per_node == asked["entrypoint_num_gpus"] == 8


def test_ray_takes_what_a_run_of_the_grid_asks_for() -> None:
    """Ray checks a task's resources where they are named, before there is a cluster."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    task = ray.remote(lambda: None)
    assert task.options(num_cpus=1, num_gpus=4)
    with pytest.raises(ValueError, match="num_gpus"):
        task.options(num_cpus=1, num_gpus=-4)


def test_the_table_of_the_grid_is_what_the_model_of_time_says() -> None:
    rows = re.search(r"<!-- table: grid -->\n.*?\n.*?\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert rows is not None
    every = [run for run in expand(load_grid(), "paper") if run.experiment.kind == "train"]
    for row in rows[1].splitlines():
        model, *cells = (cell.strip(" `").replace(",", "") for cell in row.strip("|").split("|"))
        own = [run for run in every if run.settings["config"]["model"] == model]
        one = resolve(own[0].settings["config"])
        found = plan(one, own[0].experiment.processes, "h100").times()
        assert found is not None
        hours = found.hours(found.likely)
        whole = 4 * hours
        said = [float(cell) for cell in cells]
        expected = [len(own), hours, whole, 2.5 * whole, len(own) * whole, len(own) * 2.5 * whole]
        assert said == pytest.approx(expected, rel=0.02)


def test_the_batch_script_is_one_that_bash_reads() -> None:
    assert subprocess.run(["bash", "-n"], input=SCRIPT, text=True, capture_output=True, timeout=60).returncode == 0
    options = [word for line in SCRIPT.splitlines() if line.startswith("#SBATCH") for word in line.split()[1:]]
    assert {"--ntasks-per-node=1", "--gpus-per-node=8", "--requeue"} <= set(options)
    assert all(option.startswith("--") for option in options)

"""Compute runs several at a time: on this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from sharpen.objective.cluster import connect
from sharpen.objective.storage import files
from sharpen.paper_repro.grids.plan import CostModel, Run
from sharpen.paper_repro.grids.store import Store
from sharpen.paper_repro.work.dispatch import computed, execute

Report = Callable[[Run, str], None]  # (run, "started" | "done" | "failed" | "running elsewhere")
WORK = "sharpen.paper_repro.work"


def run_local(
    runs: Sequence[Run],
    store: Store,
    *,
    jobs: int,
    cost: CostModel,
    budget: float | None = None,
    report: Report = lambda run, event: None,
) -> list[Run]:
    """Compute runs in order, each in a process of its own with one thread, and return those that failed.

    A process that dies takes only its own run along. Ctrl-C reaches the processes too: each saves its state and ends.

    Args:
        runs: In the order of their importance.
        store: Where results go.
        jobs: Processes at a time.
        cost: Expected seconds of a run.
        budget: No run starts that would end later than so many seconds from now.
        report: Told about each run.

    Raises:
        KeyboardInterrupt: Ctrl-C; the same call continues.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a run; inherited by the processes
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_preloaded(runs))
    waiting, active, failed = list(runs), {}, []
    deadline = None if budget is None else time.monotonic() + budget
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                run = waiting.pop(0)
                if deadline is not None and time.monotonic() + cost.seconds(run) > deadline:
                    continue
                process = context.Process(target=_child, args=(run, store), name=run.id)
                process.start()
                active[process.sentinel] = (process, run)
                report(run, "started")
            for sentinel in wait(list(active)) if active else ():
                process, run = active.pop(sentinel)
                process.join()
                event = {0: "done", ELSEWHERE: "running elsewhere"}.get(process.exitcode, "failed")
                if event == "failed":
                    failed.append(run)
                report(run, event)
    except KeyboardInterrupt as error:
        for process, _ in active.values():
            if process.is_alive() and process.pid is not None and not _at_a_terminal():
                os.kill(process.pid, signal.SIGINT)
        for process, _ in active.values():
            process.join()
        error.add_note("results that are done are kept; the same command goes on with the others")
        raise
    return failed


def _preloaded(runs: Sequence[Run]) -> list[str]:
    """Return the modules that are imported once, not once a run; without JAX, which does not survive a fork."""
    kinds = {run.experiment.kind for run in runs}
    found = [kind for kind in ("train", "sample") if kind in kinds]
    found += ["theory"] if kinds & {"theory", "toy"} else []
    return [f"{WORK}.{name}" for name in ("pool", *found, "preload")]


def _at_a_terminal() -> bool:
    """Return whether Ctrl-C comes from a terminal, which sends it to the processes too; twice would cost a step."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


ELSEWHERE = 75  # exit status of a process that found its run's lock taken


def _child(run: Run, store: Store) -> None:
    try:
        if not execute(run, store):
            os._exit(ELSEWHERE)
    except KeyboardInterrupt:
        os._exit(130)


def run_on_ray(
    runs: Sequence[Run], store: Store, address: str, *, report: Report = lambda run, event: None
) -> list[Run]:
    """Compute runs on a Ray cluster, one CPU (and the GPUs that the run declares) each; return those that failed.

    Args:
        runs: What to compute.
        store: Results are written here, on the driver; unfinished work stays on the node that did it.
        address: Of the cluster; ``local`` starts one on this machine.
        report: Told about each run.

    Raises:
        InputError: ray is not installed, or there is no cluster at the address.
    """
    ray = connect(address)
    failed = []
    try:
        remote = ray.remote(_remote)
        waiting = {}
        for run in runs:
            gpus = (
                run.experiment.processes if run.scale == "paper" and run.experiment.kind in ("train", "sample") else 0
            )
            waiting[remote.options(num_cpus=1, num_gpus=gpus).remote(run, str(store.folder(run).absolute()))] = run
            report(run, "started")
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            run = waiting.pop(ready)
            try:
                store.write(run, ray.get(ready))
                report(run, "done")
            except ray.exceptions.RayError as error:  # pyright: ignore[reportAttributeAccessIssue]
                files.write(store.error(run), str(error))
                failed.append(run)
                report(run, "failed")
    finally:
        ray.shutdown()
    return failed


def _remote(run: Run, folder: str) -> dict[str, Any]:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return computed(run, Path(folder))


def slurm_scripts(runs: Sequence[Run], arguments: Sequence[str], *, at_once: int = 8) -> list[str]:
    """Return SLURM array scripts that compute the runs, a task each: one script for each number of GPUs.

    Args:
        runs: What to compute.
        arguments: Further arguments of ``sharpen paper run``.
        at_once: Tasks at a time.
    """
    groups: dict[int, list[Run]] = {}
    for run in runs:
        groups.setdefault(gpus_of(run), []).append(run)
    return [_slurm_script(group, gpus, arguments, at_once) for gpus, group in groups.items()]


def gpus_of(run: Run) -> int:
    """Return how many GPUs a run needs: those that its experiment declares at the paper's scale, none here."""
    return run.experiment.processes if run.scale == "paper" and run.experiment.kind in ("train", "sample") else 0


def _slurm_script(runs: Sequence[Run], gpus: int, arguments: Sequence[str], at_once: int) -> str:
    names = "\n".join(f"  {run.id}" for run in runs)
    lines = [
        "#!/bin/bash",
        "#SBATCH --job-name=sharpen-paper",
        f"#SBATCH --array=0-{len(runs) - 1}%{at_once}",
        "#SBATCH --ntasks=1",
        f"#SBATCH --cpus-per-task={8 * gpus or 1}",
        *([f"#SBATCH --gpus-per-task={gpus}"] if gpus else []),
        "#SBATCH --requeue",
        f"RUNS=(\n{names}\n)",
        "export OMP_NUM_THREADS=1",
        f'exec sharpen paper run --scale {runs[0].scale} --run "${{RUNS[$SLURM_ARRAY_TASK_ID]}}" '
        + shlex.join(["--jobs", "1", *arguments]),
    ]
    return "\n".join(lines) + "\n"

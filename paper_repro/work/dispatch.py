"""Compute one run and store its result with where it came from."""

from __future__ import annotations

import os
import platform
import resource
import time
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sharpen.objective import InputError
from sharpen.objective.storage import files, runfolder
from sharpen.paper_repro.grids.plan import Run
from sharpen.paper_repro.grids.store import Store


def execute(run: Run, store: Store, *, keep_work: bool = False) -> bool:
    """Compute a run, or go on with it, and store its result.

    Args:
        run: What to compute.
        store: Where.
        keep_work: Keep checkpoints and logs after the result is stored.

    Returns:
        False if another process of this machine is computing it.

    Raises:
        Exception: whatever the computation raises; its traceback is kept in ``store.error(run)``.
    """
    with store.held(run) as mine:
        if not mine:
            return False
        store.error(run).unlink(missing_ok=True)
        try:
            store.write(run, computed(run, store.folder(run)))
        except KeyboardInterrupt:
            raise
        except BaseException:
            with suppress(InputError):  # a full disk must not hide what went wrong
                files.write(store.error(run), traceback.format_exc())
            raise
        if not keep_work:
            files.remove_own(store.folder(run))
    return True


def computed(run: Run, folder: Path) -> dict[str, Any]:
    """Return a run's result with provenance; ``folder`` holds what a killed computation left."""
    files.own_folder(folder)
    began, earlier = time.monotonic(), _earlier_seconds(folder)
    cpu = _cpu_seconds()
    try:
        result = _compute(run, folder)
    finally:
        spent = (time.monotonic() - began + earlier[0], _cpu_seconds() - cpu + earlier[1])
        files.write(folder / "seconds", f"{spent[0]} {spent[1]}")
    tokens = result.pop("tokens", {"trained": 0, "evaluated": 0})
    return {
        "id": run.id,
        "arm": run.arm,
        "experiment": run.experiment.id,
        "kind": run.experiment.kind,
        "seed": run.seed,
        "settings": run.settings,
        "settings_hash": run.settings_hash,
        "code_hash": run.code_hash,
        "expected_tokens": run.tokens,
        "result": result,
        "provenance": {**_provenance(), "command": run.command, "seed": run.seed, "tokens": tokens}
        | ({"rules": run.rules} if run.rules is not None else {})
        | {"seconds": spent[0], "cpu_seconds": spent[1]},
    }


def _compute(run: Run, folder: Path) -> dict[str, Any]:
    kind = run.experiment.kind
    if kind in ("train", "sample"):
        import torch
        from transformers.utils import logging

        # One core a run, also where this process was not started by the pool: other numbers of threads add up in
        # another order, and runs beside each other would wait for each other's threads.
        torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))

        logging.disable_progress_bar()  # it draws one for every checkpoint
    if kind == "train":
        from sharpen.paper_repro.work.train import train

        return train(run.settings, folder, run.experiment.processes)
    if kind == "sample":
        from sharpen.paper_repro.work.sample import sample

        return sample(run.settings, folder)
    if kind == "theory":
        from sharpen.paper_repro.work.theory import COMPUTATIONS
    else:
        from sharpen.paper_repro.work.toy import COMPUTATIONS
    compute = COMPUTATIONS[run.settings["compute"]]
    return compute(folder=folder, seed=run.seed, **run.settings["arguments"])


def _earlier_seconds(folder: Path) -> tuple[float, float]:
    """Return wall and CPU seconds that earlier, interrupted calls spent; a kill loses those of its own call."""
    try:
        wall, cpu = (folder / "seconds").read_text(encoding="utf-8").split()
        return float(wall), float(cpu)
    except (OSError, ValueError):
        return 0.0, 0.0


def _cpu_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _provenance() -> dict[str, Any]:
    whole = runfolder.provenance()
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": whole["commit"],
        "python": whole["python"],
        "versions": whole["versions"],
        "hardware": {**whole["machine"], "model": processor(), "gpu": _gpu(), "memory_gib": _memory_gib()},
        "threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or None,
    }


def processor() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu() -> str | None:
    import sys

    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)

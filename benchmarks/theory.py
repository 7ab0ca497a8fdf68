"""The optimum and the response curve beside a plain softmax by SciPy's logsumexp on the same vector, in one run.

For n from 10^3 to 10^7 prints the CPU time of (a) ``x - logsumexp(x)`` with x = alpha log p, (b) the optimum's
log-probabilities, (c) the optimum with J, E[r], entropy and KL, (d) one point of the response curve, E[r] and its
derivative, as a part of a curve of 9, and their ratios to (a); and the peak memory of each, in a process of its own,
in vectors of n float64 beyond the problem's own arrays. Writes ``benchmarks/results/theory.json``.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for library in ("OMP", "MKL", "OPENBLAS"):  # one core, said before NumPy reads it
    os.environ[f"{library}_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
from resident import peak  # noqa: E402

RESULT = Path(__file__).parent / "results" / "theory.json"
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)
ALPHA = 2.0
GRID = np.linspace(0.0, 4.0, 9)
ROUNDS = 3
LONG_ENOUGH = 0.05  # seconds: small problems are repeated until the clock can resolve them
FLOOR = "scipy softmax"


def works(n: int) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by name; every one starts from the same log p."""
    from scipy.special import logsumexp

    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.optima.optimum import frozen_optimum, optimum
    from sharpen.theory.optima.response import curve

    rng = np.random.default_rng(0)
    log_p = rng.normal(scale=2.0, size=n)
    log_p = log_p - np.asarray(logsumexp(log_p))
    problem = Problem.from_log(log_p, rng.random(n) < 0.3)
    objective = Objective(alpha=ALPHA)

    def scipy_softmax() -> Any:
        x = ALPHA * problem.log_base
        return x - np.asarray(logsumexp(x))

    assert np.allclose(frozen_optimum(objective, problem), scipy_softmax(), rtol=0.0, atol=1e-10)
    return {
        FLOOR: scipy_softmax,
        "optimum, log-probabilities": lambda: frozen_optimum(objective, problem),
        "optimum with J, E[r], H, KL": lambda: optimum(objective, problem),
        "response, one of 9 points": lambda: curve(objective, problem, "alpha", GRID),
    }


def seconds(n: int) -> dict[str, float]:
    """Return the median CPU time of each work, in turn within every round."""
    todo = works(n)
    times: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(ROUNDS):
        for name, work in todo.items():
            gc.collect()
            repeats, begin = 0, time.process_time()
            while repeats == 0 or time.process_time() - begin < LONG_ENOUGH:
                work()
                repeats += 1
            times[name].append((time.process_time() - begin) / repeats)
    per_point = {name: GRID.size if "points" in name else 1 for name in todo}
    return {name: statistics.median(each) / per_point[name] for name, each in times.items()}


def peak_vectors(n: int, name: str) -> float:
    """Return the peak memory of one work beyond what the problem holds, in vectors of n float64."""
    done = subprocess.run([sys.executable, __file__, "--memory", str(n), name], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)


def measure_memory(n: int, name: str) -> None:
    """Print the peak resident memory that one work adds, in vectors of n float64."""
    work = works(n)[name]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
    before = peak()
    result = work()
    print((peak() - before) / (8 * n))
    del result


def main() -> None:
    if "--memory" in sys.argv:
        measure_memory(int(sys.argv[-2]), sys.argv[-1])
        return
    from importlib.metadata import version

    from sharpen.objective.storage.runfolder import provenance

    rows: dict[str, Any] = {}
    for n in SIZES:
        found = seconds(n)
        memory = {name: peak_vectors(n, name) for name in found} if n >= 10**6 else {}
        rows[f"n={n}"] = {
            name: {"seconds": t, "ratio": t / found[FLOOR], "peak_vectors": memory.get(name)}
            for name, t in found.items()
        }
        print(f"n = {n:,}")
        for name, row in rows[f"n={n}"].items():
            peak = "" if row["peak_vectors"] is None else f"  peak {row['peak_vectors']:5.2f} vectors of n"
            print(f"  {name:28} {1e3 * row['seconds']:10.4g} ms  x{row['ratio']:6.2f}{peak}")
    versions = {name: version(name) for name in ("numpy", "scipy", "array-api-compat")}
    record = {"command": "python benchmarks/theory.py", "rows": rows, "versions": versions, "provenance": provenance()}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

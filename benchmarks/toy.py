"""The toy's updates beside the same update in NumPy and PyTorch, in turn, in one run on one core.

Prints, for the exact softmax-gradient update of an ensemble of policies, policy-updates per second in each library and
their ratios; cost an update against n and against the size of the ensemble, beside the time it takes to read and write
the logits once at the memory bandwidth that a copy reaches; compile time; RLOO's cost; and the peak memory of 10^4
policies times 10^4 updates. Writes ``benchmarks/results/toy.json``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ONE_CORE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
os.environ.update(ONE_CORE)  # before NumPy, JAX and PyTorch read it

import numpy as np  # noqa: E402

RESULT = Path(__file__).parent / "results" / "toy.json"
ROUNDS = 3
LONG_ENOUGH = 0.5  # seconds
LIKELIHOOD_WEIGHT = 2.0  # of log p in u for the tempered objective with alpha 2; w_h is 1


def problem(n: int, policies: int) -> np.ndarray:
    """Return the base's log-probabilities, the same for every policy, shape [R, n]."""
    base = np.random.default_rng(0).dirichlet(np.ones(n))
    return np.tile(np.log(base), (policies, 1))


def numpy_updates(log_base: np.ndarray, steps: int, eta: float) -> np.ndarray:
    u, theta = LIKELIHOOD_WEIGHT * log_base, log_base.copy()
    for _ in range(steps):
        theta = theta - theta.max(axis=1, keepdims=True)
        pi = np.exp(theta)
        total = pi.sum(axis=1, keepdims=True)
        log_pi = theta - np.log(total)
        pi /= total
        A = u - log_pi
        theta = log_pi + eta * pi * (A - (pi * A).sum(axis=1, keepdims=True))
    return theta


def torch_updates(log_base: np.ndarray, steps: int, eta: float) -> np.ndarray:
    import torch

    torch.set_num_threads(1)
    theta = torch.tensor(log_base)
    u = LIKELIHOOD_WEIGHT * theta
    for _ in range(steps):
        log_pi = torch.log_softmax(theta, dim=1)
        pi = log_pi.exp()
        A = u - log_pi
        theta = log_pi + eta * pi * (A - (pi * A).sum(dim=1, keepdim=True))
    return theta.numpy()


def jax_updates(log_base: np.ndarray, steps: int, eta: float, kind: str = "softmax") -> np.ndarray:
    from sharpen.objective import PRESETS
    from sharpen.theory.problem import Problem
    from sharpen.toy.engine import Ensemble, Machine, log_policy_only, run, run_keys, stack, start
    from sharpen.toy.estimators import Options
    from sharpen.toy.policies import SEPARATE
    from sharpen.toy.setting import setting

    policies, n = log_base.shape
    at = setting(PRESETS["tempered"], Problem(np.exp(log_base[0]), np.zeros(n)), eta)
    machine = Machine(kind, SEPARATE, Options(group_size=16, reference_moves=False), log_policy_only)
    ensemble = Ensemble(machine, stack([at] * policies), run_keys(0, policies))
    *_, last = run(ensemble, start(ensemble), steps=steps, record_every=steps)
    return last.records[-1, :, 0]


def seconds(work: Callable[[], object]) -> float:
    """Return the least time of a few runs: what is in the way only adds."""
    times = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def rate(updates: Callable[[np.ndarray, int, float], np.ndarray], n: int, policies: int) -> float:
    """Return policy-updates a second over a run long enough (half a second) that its start does not count."""
    log_base, steps = problem(n, policies), 100
    while True:
        updates(log_base, steps, 0.1)  # compiles
        took = seconds(lambda: updates(log_base, steps, 0.1))  # noqa: B023 (called at once)
        if took >= LONG_ENOUGH:
            return policies * steps / took
        steps = int(steps * min(10.0, 1.2 * LONG_ENOUGH / took)) + 1


def bandwidth() -> float:
    """Return the bytes a second that a copy of a large array reads and writes."""
    source = np.ones(2**26)
    target = np.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: np.copyto(target, source))


def peak_memory() -> float:
    """Return the peak resident MiB of 10^4 policies x 10^4 updates, n = 64, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--memory"], capture_output=True, text=True, check=True)
    return float(done.stdout)


def compare() -> dict[str, dict[str, float]]:
    rows = {}
    for n in (8, 64):
        expected, found = (f(problem(n, 4), 50, 0.1) for f in (numpy_updates, jax_updates))
        expected -= np.log(np.exp(expected).sum(axis=1, keepdims=True))
        assert np.allclose(found, expected, atol=1e-10), "the libraries must run the same update"
        rates = {f.__name__.partition("_")[0]: rate(f, n, 2000) for f in FUNCTIONS}
        rows[f"n={n}"] = rates
        ratios = "  ".join(f"{name} {r:9.3g}/s (x{r / rates['numpy']:.2f})" for name, r in rates.items())
        print(f"softmax gradient, n = {n:3}, 2000 policies: {ratios}")
    return rows


FUNCTIONS = (numpy_updates, torch_updates, jax_updates)


def scaling() -> dict[str, dict[str, float]]:
    speed = bandwidth()
    print(f"a copy moves {speed / 1e9:.1f} GB/s")
    rows = {}
    for n, policies in ((8, 2000), (64, 2000), (512, 2000), (4096, 200), (64, 100), (64, 20000)):
        cost = 1.0 / rate(jax_updates, n, policies)
        floor = 2 * 8 * n / speed  # reads and writes the logits once
        rows[f"n={n} policies={policies}"] = {"seconds": cost, "floor": floor}
        print(f"n = {n:4}, {policies:5} policies: {cost * 1e9:9.0f} ns an update, x{cost / floor:6.1f} the copy's time")
    return rows


def main() -> None:
    if "--memory" in sys.argv:
        jax_updates(problem(64, 10**4), 10**4, 0.1, "natural")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    from sharpen.objective.runfolder import provenance

    begin = time.perf_counter()
    jax_updates(problem(16, 100), 7, 0.1)
    cold = time.perf_counter() - begin
    warm = seconds(lambda: jax_updates(problem(16, 100), 7, 0.1))
    print(f"first call {cold:.2f} s, later calls {warm:.3f} s (compile time {cold - warm:.2f} s, import included)")
    record = {"compile_s": cold - warm, "libraries": compare(), "scaling": scaling()}
    record["rloo_per_s"] = rate(lambda base, steps, eta: jax_updates(base, steps, eta, "rloo"), 8, 2000)
    print(f"RLOO, G = 16, n = 8: {record['rloo_per_s']:.3g} policy-updates a second")
    record["peak_mib"] = peak_memory()
    print(f"10^4 policies x 10^4 natural updates, n = 64: peak {record['peak_mib']:.0f} MiB (goal: below 2048)")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record | {"provenance": provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main()

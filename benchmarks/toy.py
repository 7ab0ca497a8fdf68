"""The toy's updates beside NumPy, PyTorch and a C program, in turn in one process on one core.

Each work at five sizes: natural gradients between two recordings, the softmax gradient, RLOO, and the memory of an
ensemble. The ends of every opponent are compared with ours before anything is timed, for RLOO the means and variances
of many. The softmax gradient has a floor as well: one exponential a
number and a cache that is never left, by ``benchmarks/floor/softmax_step.c``, where there is a C compiler. Writes
``benchmarks/results/toy.json``, from which the tables of docs/cost.md are made (``python docs/site/cost.py``).
``--only RLOO`` measures the works with that in their names and leaves the others as they are.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ONE_CORE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "NPROC": "1",  # threads of XLA
}
if "--sweep" not in sys.argv:
    os.environ.update(ONE_CORE)  # before NumPy, JAX and PyTorch read it

import numpy as np  # noqa: E402
from scipy.special import log_softmax  # noqa: E402
from sidebyside import asked, grown, renew, resident_peak, row, told  # noqa: E402

RESULT = Path(__file__).parent / "results" / "toy.json"
FLOOR = Path(__file__).parent / "floor" / "softmax_step.c"
ETA = 0.1
LIKELIHOOD_WEIGHT = 2.0  # of log p in u for the tempered objective with alpha 2; w_h is 1
UPDATES = 1000  # between two recordings, natural gradient
STEPS = 50  # of the softmax gradient and of RLOO
LONG = 1000  # of the softmax gradient, so that what a call costs does not count
ROUNDS = 5
SAMPLES = 16  # of an update of RLOO
NUMBERS = 2**14  # policies times outcomes
OUTCOMES = (8, 32, 128, 512, 2048)
POLICIES = (3000, 10_000, 30_000, 100_000, 300_000)  # of 64 outcomes, for the memory
Advance = Callable[[int], np.ndarray]  # updates to do from the base -> logits or log pi, shape [R, n]


def bases(n: int) -> np.ndarray:
    """Return the base's log-probabilities, the same for every policy, shape [R, n]."""
    base = np.random.default_rng(0).dirichlet(np.ones(n))
    return np.tile(np.log(np.maximum(base, 1e-12)), (max(1, NUMBERS // n), 1))


def numpy_closed_form(log_base: np.ndarray) -> Advance:
    push = ETA * LIKELIHOOD_WEIGHT * (log_base - log_base.max(axis=1, keepdims=True))
    g = 1.0 - ETA

    def advance(steps: int) -> np.ndarray:
        return log_softmax(log_base * g**steps + push * ((1.0 - g**steps) / (1.0 - g)), axis=1)

    return advance


def numpy_natural(log_base: np.ndarray) -> Advance:
    push = ETA * LIKELIHOOD_WEIGHT * (log_base - log_base.max(axis=1, keepdims=True))

    def advance(steps: int) -> np.ndarray:
        theta = log_base.copy()
        for _ in range(steps):
            theta *= 1.0 - ETA
            theta += push
        return log_softmax(theta, axis=1)

    return advance


def numpy_softmax(log_base: np.ndarray) -> Advance:
    u = LIKELIHOOD_WEIGHT * log_base
    pi, advantage = np.empty_like(u), np.empty_like(u)

    def advance(steps: int) -> np.ndarray:
        theta = log_base.copy()
        for _ in range(steps):
            theta -= theta.max(axis=1, keepdims=True)
            np.exp(theta, out=pi)
            total = pi.sum(axis=1, keepdims=True)
            np.subtract(u, theta, out=advantage)  # a constant a policy more than A, which centring takes away
            np.subtract(advantage, np.einsum("ri,ri->r", pi, advantage)[:, None] / total, out=advantage)
            np.multiply(advantage, pi, out=advantage)
            np.multiply(advantage, ETA / total, out=advantage)
            theta += advantage
        return theta

    return advance


def torch_softmax(log_base: np.ndarray) -> Advance:
    import torch

    torch.set_num_threads(1)
    begin = torch.tensor(log_base)
    u = LIKELIHOOD_WEIGHT * begin

    def advance(steps: int) -> np.ndarray:
        theta = begin.clone()
        for _ in range(steps):
            pi = torch.softmax(theta, dim=1)
            A = u - theta
            A.sub_((pi * A).sum(dim=1, keepdim=True)).mul_(pi)
            theta.add_(A, alpha=ETA)
        return theta.numpy()

    return advance


def numpy_rloo(log_base: np.ndarray) -> Advance:
    (policies, n), u = log_base.shape, (LIKELIHOOD_WEIGHT * log_base).ravel()
    first = np.arange(policies)[:, None]  # policies one after the other on one line, so that one search finds all

    def advance(steps: int) -> np.ndarray:
        rng, theta = np.random.default_rng(0), log_base.copy()
        for _ in range(steps):
            log_pi = log_softmax(theta, axis=1)
            cumulative = np.cumsum(np.exp(log_pi), axis=1)
            cumulative /= cumulative[:, -1:]
            cumulative += first
            at = np.searchsorted(cumulative.ravel(), rng.random((policies, SAMPLES)) + first, side="right")
            np.minimum(at, first * n + n - 1, out=at)  # a draw that rounds to the next policy's first number
            reward = u[at] - log_pi.ravel()[at]
            advantage = (reward - reward.mean(axis=1, keepdims=True)) * (ETA / (SAMPLES - 1))  # their sum is 0: no pi
            theta += np.bincount(at.ravel(), advantage.ravel(), policies * n).reshape(policies, n)
        return theta

    return advance


def torch_rloo(log_base: np.ndarray) -> Advance:
    import torch

    torch.set_num_threads(1)
    begin = torch.tensor(log_base)
    u = LIKELIHOOD_WEIGHT * begin

    def advance(steps: int) -> np.ndarray:
        torch.manual_seed(0)
        theta = begin.clone()
        for _ in range(steps):
            log_pi = torch.log_softmax(theta, dim=1)
            at = torch.multinomial(log_pi.exp(), SAMPLES, replacement=True)
            reward = (u - log_pi).gather(1, at)
            theta.scatter_add_(1, at, (reward - reward.mean(dim=1, keepdim=True)) * (ETA / (SAMPLES - 1)))
        return theta.numpy()

    return advance


@functools.cache
def floor() -> Callable[..., None] | None:
    """Return the compiled C program, or None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = Path(tempfile.mkdtemp()) / "floor.so"
    flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, str(FLOOR), "-o", str(library), "-lm"], check=True)
    steps = ctypes.CDLL(str(library)).softmax_steps
    steps.argtypes = [*[ctypes.c_void_p] * 3, *[ctypes.c_size_t] * 3, ctypes.c_double]
    steps.restype = None
    return steps


def c_softmax(log_base: np.ndarray) -> Advance:
    u, pi, run = LIKELIHOOD_WEIGHT * log_base, np.empty(log_base.shape[1]), floor()
    assert run is not None

    def advance(steps: int) -> np.ndarray:
        theta = log_base.copy()
        run(theta.ctypes.data, u.ctypes.data, pi.ctypes.data, *theta.shape, steps, ETA)
        return theta

    return advance


def toy(kind: str, log_base: np.ndarray) -> Advance:
    from sharpen.objective import PRESETS
    from sharpen.theory.core.problem import Problem
    from sharpen.toy.dynamics.engine import Ensemble, Machine, log_policy_only, run, start
    from sharpen.toy.learners.parts.learner import Options
    from sharpen.toy.problems.policies import SEPARATE
    from sharpen.toy.problems.setting import Setting, setting

    policies, n = log_base.shape
    base = np.exp(log_base[0])
    at = setting(PRESETS["tempered"], Problem(base / base.sum(), np.zeros(n)), ETA)
    options = Options(group_size=SAMPLES, reference_moves=False, noisy_reward=False)
    machine = Machine(kind, SEPARATE, options, log_policy_only)
    alike = Setting(*(np.broadcast_to(part, (policies, *np.shape(part))) for part in at))
    ensemble = Ensemble(machine, alike, np.arange(policies, dtype=np.uint64))
    begun = start(ensemble)

    def advance(steps: int) -> np.ndarray:
        *_, last = run(ensemble, begun, steps=steps, record_every=steps)
        return last.records[-1, :, 0]

    return advance


WORKS: dict[str, tuple[str, int, dict[str, Callable[[np.ndarray], Advance]]]] = {
    f"{UPDATES} natural gradients, one record": (
        "natural",
        UPDATES,
        {
            "numpy theta * g**k + push * (1 - g**k) / (1 - g), scipy.special.log_softmax": numpy_closed_form,
            "numpy theta *= g; theta += push, a thousand times, scipy.special.log_softmax": numpy_natural,
        },
    ),
    **{
        f"{steps} softmax gradients": (
            "softmax",
            steps,
            {"numpy.exp and numpy.einsum in place": numpy_softmax, "torch.softmax in place": torch_softmax},
        )
        for steps in (STEPS, LONG)
    },
    f"{STEPS} updates of RLOO, {SAMPLES} samples": (
        "rloo",
        STEPS,
        {
            "numpy.cumsum, numpy.searchsorted and numpy.bincount": numpy_rloo,
            "torch.multinomial and torch.scatter_add in place": torch_rloo,
        },
    ),
}


def check(kind: str, steps: int, opponents: dict[str, Callable[[np.ndarray], Advance]]) -> None:
    """Stop unless all run the same update, or updates of one law where they draw."""
    if kind == "rloo":
        laws = [np.exp(log_softmax(work(bases(8))(5), axis=1)) for work in (*opponents.values(), partial(toy, kind))]
        means, errors = zip(*((law.mean(axis=0), law.std(axis=0) / len(law) ** 0.5) for law in laws), strict=True)
        for mean, error in zip(means, errors, strict=True):
            assert np.all(abs(mean - means[-1]) < 5.0 * np.hypot(error, errors[-1])), "other means of RLOO"
            assert np.allclose(error, errors[-1], rtol=0.15), "other variances of RLOO"
        return
    log_base = bases(8)[:4]
    ends = [prepare(log_base)(steps) for prepare in (*opponents.values(), partial(toy, kind))]
    ends = [end - np.log(np.exp(end).sum(axis=1, keepdims=True)) for end in ends]
    assert all(np.allclose(end, ends[-1], atol=1e-10) for end in ends), f"the libraries differ in {kind}"


def measured(kind: str, steps: int, opponents: dict[str, Callable[[np.ndarray], Advance]], n: int) -> dict[str, Any]:
    log_base = bases(n)
    advances = {name: prepare(log_base) for name, prepare in opponents.items()}
    floors = {"c": c_softmax(log_base)} if kind == "softmax" and floor() is not None else {}
    works = {name: partial(advance, steps) for name, advance in (advances | floors).items()}
    found = row(n, partial(toy(kind, log_base), steps), works, memory=False, rounds=ROUNDS)
    if floors:
        found["floor"] = found["opponents"].pop("c")
        found["times_the_floor"] = found["seconds"] / found["floor"]
        fastest = min(found["opponents"], key=found["opponents"].__getitem__)
        found |= {"opponent": fastest, "ratio": found["seconds"] / found["opponents"][fastest]}
    return found | {"policies": len(log_base)}


def ensemble() -> dict[str, float]:
    """Return peak resident MiB and seconds of 10^4 policies x 10^4 updates, n = 64, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--memory"], capture_output=True, text=True, check=True)
    held, took = map(float, done.stdout.split())
    return {"peak_mib": held, "cpu_s": took}


def memory(policies: int) -> dict[str, Any]:
    """Return what an ensemble of 64 outcomes holds beyond JAX itself, and its time, in a process of its own."""
    command = [sys.executable, __file__, "--policies", str(policies)]
    held, took = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    return {"size": policies, "seconds": took, "opponents": {}, "peak_bytes": int(held)}


def tell_memory(policies: int) -> None:
    """Print the largest resident set beyond that of the same work of one policy, bytes, and the seconds."""
    base = np.log(np.random.default_rng(0).dirichlet(np.ones(64)))[None]
    toy("softmax", base)(STEPS)
    before = resident_peak()
    advance = toy("softmax", np.tile(base, (policies, 1)))
    advance(STEPS)
    held, begin = resident_peak() - before, time.process_time()
    advance(STEPS)
    print(held, time.process_time() - begin)


def cores() -> dict[str, Any]:
    """Return the seconds of a sweep of eight compiled batches on one thread, as XLA is by default, and on all cores."""
    one = {"NPROC": "1", "JAX_NUM_CPU_DEVICES": "1"}
    arms = {
        "one thread": one,
        "XLA's default": {"JAX_NUM_CPU_DEVICES": "1"},
        "every core": {"JAX_NUM_CPU_DEVICES": str(os.cpu_count() or 1)},
    }
    clean = {name: value for name, value in os.environ.items() if name not in ONE_CORE}
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(3):
        for arm, settings in arms.items():
            command = [sys.executable, __file__, "--sweep"]
            done = subprocess.run(command, env=clean | settings, capture_output=True, text=True, check=True)
            seconds[arm].append(float(done.stdout))
    medians = {arm: statistics.median(found) for arm, found in seconds.items()}
    print("a sweep of 8 batches:", ", ".join(f"{arm} {found:.2f} s" for arm, found in medians.items()))
    return {"batches": 8, "cores": os.cpu_count(), "seconds": medians, "load": os.getloadavg()[0]}


def sweep_seconds() -> float:
    """Return the wall seconds of 512 runs of RLOO, 10,000 updates each, in batches of 64."""
    from sharpen.toy.sweeps.config import SweepConfig
    from sharpen.toy.sweeps.sweep import compute_table

    config = SweepConfig(alpha=tuple(range(1, 9)), learner=("rloo",), seeds=64, steps=10_000, batch=64)
    compute_table(config)
    begin = time.perf_counter()
    compute_table(config)
    return time.perf_counter() - begin


def main() -> None:
    if "--sweep" in sys.argv:
        print(sweep_seconds())
        return
    if "--cores" in sys.argv:
        record = json.loads(RESULT.read_text()) | {"cores": cores()}
        RESULT.write_text(json.dumps(record, indent=2) + "\n")
        return
    if "--policies" in sys.argv:
        tell_memory(int(sys.argv[-1]))
        return
    if "--memory" in sys.argv:
        base = np.random.default_rng(0).dirichlet(np.ones(64))
        toy("natural", np.tile(np.log(base), (10**4, 1)))(10**4)
        print(resident_peak() / 2**20, time.process_time())
        return
    from sharpen.objective.storage.runfolder import provenance

    works: dict[str, Any] = {}
    for name, (kind, steps, opponents) in asked(WORKS, sys.argv).items():
        check(kind, steps, opponents)
        works[name] = grown("outcomes", [measured(kind, steps, opponents, n) for n in OUTCOMES])
        told(name, works[name])
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if "--only" in sys.argv:
        renew(RESULT, works, load_a_core=load, provenance=provenance())
        return
    ensembles = f"{STEPS} softmax gradients of 64 outcomes"
    works[ensembles] = grown("policies", [memory(policies) for policies in POLICIES])
    told(ensembles, works[ensembles])
    record = {"command": "python benchmarks/toy.py", "load_a_core": load, "numbers": NUMBERS, "works": works}
    record |= {"ensemble": ensemble(), "cores": cores()}
    RESULT.write_text(json.dumps(record | {"provenance": provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main()

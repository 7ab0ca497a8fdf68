"""The toy's updates beside the same updates in NumPy and PyTorch, in turn, in one run on one core.

Prints and writes to ``benchmarks/results/toy.json``: policy-updates per second of exact updates in each library and
their ratios, in double and in single precision; cost an update against n and against the size of the ensemble, beside
the time it takes to read and write the logits once at the bandwidth that a copy reaches; compile time; RLOO's cost;
peak memory of 10^4 policies times 10^4 updates. Goals that are missed are said to be.

The opponents work in place on preallocated arrays. ``natural`` is the affine step of unnormalised logits in all three
libraries; ``natural, normalised`` is the textbook's in NumPy and PyTorch, which computes log pi after every update.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ONE_CORE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
os.environ.update(ONE_CORE)  # before NumPy, JAX and PyTorch read it

import numpy as np  # noqa: E402
from resident import peak  # noqa: E402

RESULT = Path(__file__).parent / "results" / "toy.json"
ROUNDS = 2
LONG_ENOUGH = 0.2  # seconds
ETA = 0.1
LIKELIHOOD_WEIGHT = 2.0  # of log p in u for the tempered objective with alpha 2; w_h is 1
FASTER, FLOOR, MEMORY = 20.0, 3.0, 2048.0  # the goals: times NumPy, times the copy's time, MiB
Advance = Callable[[int], np.ndarray]  # updates to do from the base -> logits or log pi, shape [R, n]


def problem(n: int, policies: int, precision: str = "float64") -> np.ndarray:
    """Return the base's log-probabilities, the same for every policy, shape [R, n]."""
    base = np.random.default_rng(0).dirichlet(np.ones(n))
    return np.tile(np.log(base), (policies, 1)).astype(precision)


def numpy_natural(log_base: np.ndarray) -> Advance:
    push = ETA * LIKELIHOOD_WEIGHT * (log_base - log_base.max(axis=1, keepdims=True))
    shrink = log_base.dtype.type(1.0 - ETA)

    def advance(steps: int) -> np.ndarray:
        theta = log_base.copy()
        for _ in range(steps):
            theta *= shrink
            theta += push
        return theta

    return advance


def numpy_normalised(log_base: np.ndarray) -> Advance:
    push, scratch = ETA * LIKELIHOOD_WEIGHT * log_base, np.empty_like(log_base)
    shrink = log_base.dtype.type(1.0 - ETA)

    def advance(steps: int) -> np.ndarray:
        theta = log_base.copy()
        for _ in range(steps):
            theta *= shrink
            theta += push
            theta -= theta.max(axis=1, keepdims=True)
            np.exp(theta, out=scratch)
            theta -= np.log(scratch.sum(axis=1, keepdims=True))
        return theta

    return advance


def numpy_softmax(log_base: np.ndarray) -> Advance:
    u = LIKELIHOOD_WEIGHT * log_base
    pi, advantage = np.empty_like(u), np.empty_like(u)
    eta = log_base.dtype.type(ETA)

    def advance(steps: int) -> np.ndarray:
        theta = log_base.copy()
        for _ in range(steps):
            theta -= theta.max(axis=1, keepdims=True)
            np.exp(theta, out=pi)
            total = pi.sum(axis=1, keepdims=True)
            theta -= np.log(total)
            np.divide(pi, total, out=pi)
            np.subtract(u, theta, out=advantage)
            np.subtract(advantage, np.einsum("ri,ri->r", pi, advantage)[:, None], out=advantage)
            np.multiply(advantage, pi, out=advantage)
            np.multiply(advantage, eta, out=advantage)
            theta += advantage
        return theta

    return advance


def torch_natural(log_base: np.ndarray) -> Advance:
    import torch

    torch.set_num_threads(1)
    begin = torch.tensor(log_base)
    push = ETA * LIKELIHOOD_WEIGHT * (begin - begin.amax(dim=1, keepdim=True))

    def advance(steps: int) -> np.ndarray:
        theta = begin.clone()
        for _ in range(steps):
            theta.mul_(1.0 - ETA).add_(push)
        return theta.numpy()

    return advance


def torch_normalised(log_base: np.ndarray) -> Advance:
    import torch

    torch.set_num_threads(1)
    begin = torch.tensor(log_base)
    push = ETA * LIKELIHOOD_WEIGHT * begin

    def advance(steps: int) -> np.ndarray:
        theta = begin.clone()
        for _ in range(steps):
            theta = torch.log_softmax(theta.mul_(1.0 - ETA).add_(push), dim=1)
        return theta.numpy()

    return advance


def torch_softmax(log_base: np.ndarray) -> Advance:
    import torch

    torch.set_num_threads(1)
    begin = torch.tensor(log_base)
    u = LIKELIHOOD_WEIGHT * begin

    def advance(steps: int) -> np.ndarray:
        theta = begin.clone()
        for _ in range(steps):
            theta = torch.log_softmax(theta, dim=1)
            pi = theta.exp()
            A = u - theta
            A.sub_((pi * A).sum(dim=1, keepdim=True)).mul_(pi)
            theta.add_(A, alpha=ETA)
        return theta.numpy()

    return advance


@functools.cache
def toy(kind: str) -> Callable[[np.ndarray], Advance]:
    def prepared(log_base: np.ndarray) -> Advance:
        from sharpen.objective import PRESETS
        from sharpen.theory.core.problem import Problem
        from sharpen.toy.dynamics.engine import Ensemble, Machine, log_policy_only, run, start
        from sharpen.toy.learners.parts.learner import Options
        from sharpen.toy.problems.policies import SEPARATE
        from sharpen.toy.problems.setting import Setting, setting

        policies, n = log_base.shape
        base = np.exp(log_base[0].astype(np.float64))
        at = setting(PRESETS["tempered"], Problem(base / base.sum(), np.zeros(n)), ETA)
        options = Options(group_size=16, reference_moves=False, noisy_reward=False)
        machine = Machine(kind, SEPARATE, options, log_policy_only, str(log_base.dtype))
        alike = Setting(*(np.broadcast_to(part, (policies, *np.shape(part))) for part in at))
        ensemble = Ensemble(machine, alike, np.arange(policies, dtype=np.uint64))
        begun = start(ensemble)

        def advance(steps: int) -> np.ndarray:
            *_, last = run(ensemble, begun, steps=steps, record_every=steps)
            return last.records[-1, :, 0]

        return advance

    return prepared


UPDATES: dict[str, dict[str, Callable[[np.ndarray], Advance]]] = {
    "natural": {"numpy": numpy_natural, "torch": torch_natural, "toy": toy("natural")},
    "natural, normalised": {"numpy": numpy_normalised, "torch": torch_normalised, "toy": toy("natural")},
    "softmax": {"numpy": numpy_softmax, "torch": torch_softmax, "toy": toy("softmax")},
}


def seconds(work: Callable[[], object]) -> float:
    """Return the least processor time of a few runs: what is in the way only adds."""
    times = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def rate(prepare: Callable[[np.ndarray], Advance], log_base: np.ndarray) -> float:
    """Return policy-updates a second over a run long enough that its start does not count."""
    advance, steps = prepare(log_base), 100
    while True:
        advance(steps)  # compiles, where the number of steps is new
        took = seconds(lambda: advance(steps))  # noqa: B023 (called at once)
        if took >= LONG_ENOUGH:
            return len(log_base) * steps / took
        steps = int(steps * min(30.0, 1.3 * LONG_ENOUGH / max(took, 1e-4))) + 1


_known: dict[Any, float] = {}


def known(prepare: Callable[[np.ndarray], Advance], log_base: np.ndarray) -> float:
    """Return :func:`rate`, measured once for each work."""
    work = (prepare, log_base.shape, log_base.dtype)
    if work not in _known:
        _known[work] = rate(prepare, log_base)
    return _known[work]


def compare() -> dict[str, dict[str, float]]:
    rows = {}
    for name, libraries in UPDATES.items():
        check(name)
        for n, precision in ((8, "float64"), (64, "float64"), (64, "float32")):
            log_base = problem(n, 2000, precision)
            rates = {library: known(prepare, log_base) for library, prepare in libraries.items()}
            rows[f"{name}, n={n}, {precision}"] = rates
            others = "  ".join(f"{library} {r:8.3g}/s" for library, r in rates.items())
            times = rates["toy"] / rates["numpy"]
            print(f"{name:19} n = {n:2} {precision}: {others}  x{times:5.1f} NumPy, {said(times >= FASTER, '>= 20')}")
    return rows


def said(reached: bool, goal: str) -> str:
    return f"goal {goal} {'reached' if reached else 'MISSED'}"


def check(name: str) -> None:
    """Stop unless the libraries run the same update."""
    ends = [prepare(problem(8, 4))(50) for prepare in UPDATES[name].values()]
    ends = [end - np.log(np.exp(end).sum(axis=1, keepdims=True)) for end in ends]
    assert all(np.allclose(end, ends[0], atol=1e-10) for end in ends), f"the libraries differ in {name}"


def bandwidth() -> float:
    """Return the bytes a second that a copy of a large array reads and writes."""
    source = np.ones(2**25)
    target = np.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: np.copyto(target, source))


def scaling() -> dict[str, dict[str, float]]:
    speed = bandwidth()
    print(f"a copy moves {speed / 1e9:.1f} GB/s")
    rows = {}
    for kind in ("natural", "softmax"):
        for n, policies in ((8, 2000), (64, 2000), (512, 2000), (4096, 200), (64, 20), (64, 20000)):
            cost = 1.0 / known(toy(kind), problem(n, policies))
            floor = 2 * 8 * n / speed  # reads and writes the logits once
            rows[f"{kind}, n={n}, policies={policies}"] = {"seconds": cost, "floor": floor}
            near = said(cost <= FLOOR * floor, "<= 3")
            print(f"{kind:7} n = {n:4}, {policies:5} policies: {cost * 1e9:8.1f} ns, x{cost / floor:5.1f} copy, {near}")
    return rows


def peak_memory() -> dict[str, float]:
    """Return peak resident MiB and seconds of 10^4 policies x 10^4 updates, n = 64, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--memory"], capture_output=True, text=True, check=True)
    held, took = map(float, done.stdout.split())
    return {"peak_mib": held, "cpu_s": took}


def main() -> None:
    if "--memory" in sys.argv:
        toy("natural")(problem(64, 10**4))(10**4)
        print(peak() / 2**20, time.process_time())
        return
    from sharpen.objective.storage.runfolder import provenance

    advance = toy("natural")(problem(16, 100))
    begin = time.process_time()
    advance(7)
    cold = time.process_time() - begin
    compiled = cold - seconds(lambda: advance(7))
    print(f"compile time {compiled:.2f} s (processor time of a first call less that of a later one)")
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)  # processes that want a core, for each core
    if busy > 1.5:
        print(f"{busy:.1f} processes a core: processor time is counted, but caches and memory are shared with others")
    record: dict[str, Any] = {"compile_s": compiled, "load_a_core": busy, "libraries": compare(), "scaling": scaling()}
    record["rloo_per_s"] = rate(toy("rloo"), problem(8, 2000))
    print(f"RLOO, G = 16, n = 8: {record['rloo_per_s']:.3g} policy-updates a second")
    record["ensemble"] = peak_memory()
    held = record["ensemble"]["peak_mib"]
    within = said(held < MEMORY, "< 2048")
    print(f"10^4 policies x 10^4 updates: {held:.0f} MiB, {record['ensemble']['cpu_s']:.0f} s, {within}")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record | {"provenance": provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main()

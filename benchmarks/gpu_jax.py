"""A part of benchmarks/gpu_check.py: toy ensembles and theory by JAX, on the GPU and on one CPU core."""

from __future__ import annotations

import importlib
import time
from typing import Any


def jax_part(tiny: bool) -> dict[str, Any]:
    """Return updates a second of ensembles of up to 10^6 policies, and seconds of log pi* of 10^7 outcomes, on both."""
    importlib.import_module("toy")  # sets one core, before JAX reads it
    import jax
    import numpy as np

    from sharpen.objective import Objective
    from sharpen.theory.core import backend

    if tiny:
        jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    found: dict[str, Any] = {"devices": [str(device) for device in jax.devices()]}
    if not tiny and all(device.platform == "cpu" for device in jax.devices()):
        return {"skipped": f"jax {jax.__version__} has no CUDA here; pip install 'jax[cuda13]' brings it"}
    for name in ("cpu",) if tiny else ("cpu", "gpu"):
        with jax.default_device(jax.devices(name)[0]):
            for n, policies in ((64, 100),) if tiny else ((64, 10**4), (64, 10**6)):
                for kind in ("natural", "softmax", "rloo"):
                    if policies > 10**4 and (name == "cpu" or kind == "rloo"):
                        continue
                    rate = updates_per_second(kind, n, policies, 2 if tiny else 100)
                    found[f"{name}, {kind}, n={n}, policies={policies}, updates/s"] = rate
            log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(1000 if tiny else 10**7)))
            arrays = (jax.numpy.asarray(log_p), jax.numpy.zeros(log_p.size))
            best = jax.jit(lambda p, r: backend.log_optimum(Objective(alpha=2.0), r, p))
            jax.block_until_ready(best(*arrays))
            start = time.perf_counter()
            jax.block_until_ready([best(*arrays) for _ in range(5)])
            found[f"{name}, log pi*, n={log_p.size}, seconds"] = (time.perf_counter() - start) / 5
    return found


def updates_per_second(kind: str, n: int, policies: int, steps: int) -> float:
    """Return policy-updates a second of one learner, as benchmarks/toy.py runs it, compilation apart.

    Natural gradients go from record to record in closed form, so theirs is the rate of one such jump.
    """
    import numpy as np

    toy = importlib.import_module("toy")
    advance = toy.toy(kind, np.tile(toy.bases(n)[:1], (policies, 1)))
    advance(steps)  # compiles
    begin = time.perf_counter()
    end = advance(steps)
    took = time.perf_counter() - begin
    assert np.isfinite(end).all()
    return policies * steps / took

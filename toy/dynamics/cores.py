"""How many cores XLA uses; to be said before JAX computes anything, by a process that does nothing else with JAX."""

from __future__ import annotations

import os
from contextlib import suppress

import jax

# Up to so many numbers in an array a second thread costs an update more than it brings: at 100 outcomes RLOO takes 6 us
# on one thread and 12 on two, at 10,000 it takes 151 and 200, at a million 55,000 and 38,000 (two cores).
SMALL = 2**15


def use_every_core() -> None:
    """Make each core a device of JAX; :func:`sharpen.toy.sweeps.sweep.sweep` then computes as many batches at a time.

    Does nothing where JAX has begun, or where the environment says how many devices there are
    (``JAX_NUM_CPU_DEVICES``, or ``XLA_FLAGS``).
    """
    flags = os.environ.get("XLA_FLAGS", "")
    said = jax.config.values["jax_num_cpu_devices"] >= 0 or "host_platform_device_count" in flags
    if not said:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        with suppress(RuntimeError):  # JAX has begun
            jax.config.update("jax_num_cpu_devices", len(cores))


def use_one_thread(numbers: int) -> None:
    """Keep XLA to one thread if arrays hold few numbers, unless the environment says how many (``NPROC``).

    Args:
        numbers: Of the largest array, for example logits of all prompts.
    """
    if numbers <= SMALL:
        os.environ.setdefault("NPROC", "1")

"""Keeps what vLLM does to its process from reaching the rest of the program."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch

from sharpen.objective import InputError

MULTIPROCESSING = "VLLM_ENABLE_V1_MULTIPROCESSING"
# What a user has set stays. Warnings are off because on a CPU each start prints a page of them.
DEFAULTS = {MULTIPROCESSING: "0", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}


@contextmanager
def contained() -> Iterator[None]:
    """Import and construct vLLM inside; everything global that it changes is put back.

    That is: the environment variables set here, the random states (vLLM seeds them all), torch's number of threads
    and the function that sets it (vLLM replaces it by one that does nothing), and the CPUs this process may use.

    Raises:
        InputError: the environment demands that the engine be in another process, where no weights could be pushed.
    """
    if os.environ.get(MULTIPROCESSING, "0") != "0":
        raise InputError(MULTIPROCESSING, os.environ[MULTIPROCESSING], "0 or unset, so that weights can be pushed")
    threads, set_threads = torch.get_num_threads(), torch.set_num_threads
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    environment = {name: value for name, value in DEFAULTS.items() if name not in os.environ}
    with patch.dict(os.environ), random_states_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        os.environ.update(environment)
        _set_log_level()
        try:
            yield
        finally:
            torch.set_num_threads = set_threads
            torch.set_num_threads(threads)
            if cpus is not None:
                os.sched_setaffinity(0, cpus)


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Put the random states of Python, NumPy and torch back afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (vLLM seeds the legacy generator)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def heap_left_alone() -> Iterator[None]:
    """Keep vLLM from going through the whole program's heap, five times at a start and once more at an end.

    It does so before it measures a GPU's memory. On a CPU it measures none, and each time takes a third of a second
    in a program that has imported torch and vLLM. Nor is the heap frozen or unfrozen, which is the trainer's too.
    """
    with patch("gc.collect", lambda *_: 0), patch("gc.freeze", lambda: None), patch("gc.unfreeze", lambda: None):
        yield


def seed_everything(seed: int) -> None:
    """Seed what vLLM draws the noise of rows without seeds from: torch's generators, or NumPy's, by its version."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)  # of all devices


def _set_log_level() -> None:
    """Apply the level also where vLLM was imported before, so that it reads its variable no more."""
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"].upper())

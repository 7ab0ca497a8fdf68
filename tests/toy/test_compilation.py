"""The tests compile without XLA's optimiser (tests/conftest.py). Here is compiled as for users.

The numbers are the same, and the bits where bits are promised.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
AS_FOR_USERS = {"XLA_FLAGS": ""}
BITS = (
    "test_toy_closed_form.py::test_records_in_between_do_not_change_the_end_nor_does_an_interruption",
    "test_toy_dynamics.py::test_a_run_continued_from_any_chunk_is_the_same_run[softmax]",
    "test_toy_dynamics.py::test_a_run_continued_from_any_chunk_is_the_same_run[tb]",
    "test_toy_sweep.py::test_a_runs_numbers_do_not_depend_on_the_rest_of_the_grid",
)


def test_learners_end_at_the_same_policy(tmp_path: Path) -> None:
    out = tmp_path / "policies.npz"
    command = [sys.executable, str(HERE / "learner_policies.py"), str(out)]
    subprocess.run(command, env=os.environ | AS_FOR_USERS, check=True, timeout=600)
    quick = runpy.run_path(str(HERE / "learner_policies.py"))["policies"]()
    with np.load(out, allow_pickle=False) as optimised:
        assert set(optimised) == set(quick)
        for kind, log_pi in quick.items():
            np.testing.assert_allclose(optimised[kind], log_pi, rtol=1e-9, atol=1e-12, err_msg=kind)
            assert np.abs(log_pi[1] - log_pi[0]).max() > 1e-3, kind  # it has moved


def test_what_is_promised_to_the_bit_holds() -> None:
    tests = [str(HERE / test) for test in BITS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env=os.environ | AS_FOR_USERS,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(BITS)} passed" in done.stdout

"""A problem's checks and its forms as text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpen.objective import InputError
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem, parse_base, parse_length, parse_problem, parse_reward


def test_the_default_problem_has_a_wrong_mode_and_accuracy_037() -> None:
    assert DEFAULT_PROBLEM.reward[np.argmax(DEFAULT_PROBLEM.base)] == 0.0
    assert DEFAULT_PROBLEM.expected_reward(DEFAULT_PROBLEM.base) == pytest.approx(0.37, abs=1e-15)


def test_a_base_is_renormalised_only_as_far_as_it_was_rounded() -> None:
    assert Problem([0.333333, 0.333333, 0.333333 + 5e-7], [0, 0, 0]).base.sum() == pytest.approx(1.0, abs=1e-15)
    with pytest.raises(InputError, match="sum is 1"):
        Problem([0.33333, 0.33333, 0.33333], [0, 0, 0])


def test_log_probabilities_are_shifted_as_far_as_they_were_rounded() -> None:
    problem = Problem.from_log(np.log([0.5, 0.3, 0.2]) + 5e-7, [0, 0, 0])
    np.testing.assert_allclose(problem.log_base, np.log([0.5, 0.3, 0.2]), rtol=1e-14)
    np.testing.assert_allclose(problem.base, [0.5, 0.3, 0.2], rtol=1e-14)
    with pytest.raises(InputError, match="logsumexp is 0"):
        Problem.from_log(np.log([0.5, 0.3, 0.2]) + 5e-6, [0, 0, 0])


def test_arrays_are_copies_and_read_only() -> None:
    given_base = np.array([0.5, 0.5])
    problem = Problem(given_base, [0, 1])
    given_base[0] = 9.0
    assert problem.base[0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        problem.base[0] = 1.0


@pytest.mark.filterwarnings("error")
def test_log_base_of_an_outcome_without_mass() -> None:
    problem = Problem([0.5, 0.0, 0.5], [0, 1, 0])
    assert problem.log_base.tolist() == [np.log(0.5), -np.inf, np.log(0.5)]
    assert problem.support.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("base", "reward", "length", "field"),
    [
        ([0.5, 0.4], [0, 1], None, "base"),
        ([-0.1, 1.1], [0, 1], None, "base"),
        ([np.nan, 1.0], [0, 1], None, "base"),
        ([], [], None, "base"),
        ([[0.5, 0.5]], [0, 1], None, "base"),
        (["a", "b"], [0, 1], None, "base"),
        ([0.5, 0.5], [0, np.inf], None, "reward"),
        ([0.5, 0.5], [0, 1, 2], None, "reward"),
        ([0.5, 0.5], [0, 1], [1, 0.5], "length"),
        ([0.5, 0.5], [0, 1], [1], "length"),
    ],
)
def test_a_wrong_array_is_named(base: list, reward: list, length: list | None, field: str) -> None:
    with pytest.raises(InputError) as caught:
        Problem(base, reward, length)
    assert caught.value.field == field


def test_named_bases() -> None:
    harmonic = np.array([1.0, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(parse_base("zipf:4"), harmonic / harmonic.sum(), rtol=1e-15)
    np.testing.assert_allclose(parse_base("uniform:3"), [1 / 3] * 3, rtol=1e-15)
    drawn = parse_base("dirichlet:5:7")
    np.testing.assert_allclose(drawn, np.random.default_rng(7).dirichlet(np.ones(5)), rtol=1e-15)
    assert parse_base("dirichlet:5:8").tolist() != drawn.tolist()


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8))
def test_every_written_base_is_read_back(weights: list[float]) -> None:
    p = np.array(weights) / np.sum(weights)
    np.testing.assert_allclose(parse_base(",".join(map(repr, p.tolist()))), p, rtol=1e-14)


def test_bases_in_files(tmp_path: Path) -> None:
    p = [0.5, 0.3, 0.2]
    np.save(tmp_path / "p.npy", p)
    (tmp_path / "p.json").write_text(json.dumps(p))
    (tmp_path / "p.csv").write_text("0.5,0.3\n0.2\n")
    for name in ("p.npy", "p.json", "p.csv"):
        assert parse_base(str(tmp_path / name)).tolist() == p
        assert parse_reward(str(tmp_path / name), 3).tolist() == p


def test_bad_files_are_input_errors(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.array([1j]))
    (tmp_path / "text.npy").write_text("not an array")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "words.json").write_text('["a"]')
    (tmp_path / "broken.json").write_text("[1,")
    (tmp_path / "nan.json").write_text("[NaN, 1]")
    (tmp_path / "huge.json").write_text("[" + "1" + "0" * 400 + "]")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "latin.csv").write_bytes(b"\xff\xfe")
    (tmp_path / "folder.csv").mkdir()
    for path in [*tmp_path.iterdir(), tmp_path / "missing.csv"]:
        with pytest.raises(InputError) as caught:
            parse_base(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "n", "reward"),
    [
        ("1,3", 5, [0, 1, 0, 1, 0]),
        ("2", 3, [0, 0, 1]),
        ("0,1", 2, [0, 1]),  # n numbers: a vector
        ("indices:0,1", 2, [1, 1]),
        ("indices: 0 , 2", 3, [1, 0, 1]),
        ("0.5,-1,2e0", 3, [0.5, -1, 2]),
        ("5", 1, [5]),
        ("uniform:4", 4, [0.25] * 4),
    ],
)
def test_rewards(text: str, n: int, reward: list[float]) -> None:
    assert parse_reward(text, n).tolist() == reward


@pytest.mark.parametrize(
    "text", ["1,2,3,4,5,6,7", "0.5,1", "1,1", "5", "-1", "indices:5", "indices:1.0", "indices:", "", "a,b", "zipf:4"]
)
def test_rewards_that_fit_no_form(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_reward(text, 5)
    assert caught.value.field == "reward"


def test_a_reward_of_another_length_names_both() -> None:
    with pytest.raises(InputError, match=r"7 numbers.*5 numbers"):
        parse_reward("1,2,3,4,5,6,7", 5)


@pytest.mark.parametrize(
    "text", ["", ",", "0.5;0.5", "zipf", "zipf:0", "zipf:-3", "zipf:99999999", "zipf:1e3", "dirichlet:4", "uniform:2:1"]
)
def test_bases_that_fit_no_form(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_base(text)
    assert caught.value.field == "base"


def test_lengths() -> None:
    assert parse_length("1,2.5", 2).tolist() == [1.0, 2.5]
    for text in ("1", "1,a", "1,2,3"):
        with pytest.raises(InputError):
            parse_length(text, 2)
    assert parse_problem("0.5,0.5", "1,0", "3,4").length.tolist() == [3.0, 4.0]

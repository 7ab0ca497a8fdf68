"""Sequence models from arrays, files and texts: what they are and what they refuse; and 10^5 states."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import splu

from sharpen.objective import InputError
from sharpen.theory.sequences import (
    MarkovModel,
    Spectrum,
    critical_alpha,
    from_files,
    from_lines,
    from_text,
    gap,
    likeliest,
    mean_length,
    mean_mode,
    power,
    weighted_mode,
)

A, E = np.array([[0.5, 0.25], [0.0, 0.75]]), np.array([0.25, 0.25])


def test_dense_and_sparse_are_the_same_model() -> None:
    dense, thin = MarkovModel(A, E), MarkovModel(sparse.coo_matrix(A), E.tolist())
    for model in (dense, thin):
        np.testing.assert_allclose(model.transition.toarray(), A, rtol=1e-15)
        np.testing.assert_allclose(model.stop, E, rtol=1e-15)
        assert (model.n, model.m, model.start_state, model.name(1)) == (2, 3, 0, "1")
        assert not model.log_prob.flags.writeable


def test_rounded_rows_are_renormalised() -> None:
    model = MarkovModel([[0.3333333, 0.3333333], [0.0, 0.5]], [0.3333333, 0.5])
    np.testing.assert_allclose(model.transition.sum(axis=1) + model.stop, 1.0, rtol=1e-15)


def test_rounded_logarithms_and_start_laws_are_renormalised() -> None:
    source, target = np.array([0, 0, 1]), np.array([0, 1, 1])
    off = np.array([5e-7, 5e-7, -4e-7])
    model = MarkovModel.from_log(
        source, target, np.log([0.5, 0.25, 0.75]) + off, np.log(E) + off[[0, 2]], [0.3, 0.7 + 5e-7]
    )
    np.testing.assert_allclose(model.transition.toarray(), A, rtol=1e-14)
    np.testing.assert_allclose(model.stop, E, rtol=1e-14)
    assert model.start.sum() == pytest.approx(1.0, abs=1e-15)
    assert model.start[0] == pytest.approx(0.3 / (1.0 + 5e-7), rel=1e-14)


@pytest.mark.parametrize(
    ("transition", "stop", "start", "words"),
    [
        ([[0.5, 0.4], [0.0, 0.5]], [0.1, 0.4], 0, ("transition row 1", "0.9")),
        ([[0.5, -0.4], [0.0, 0.5]], [0.9, 0.5], 0, ("transition row 0", "-0.4")),
        ([[0.5, math.nan], [0.0, 0.5]], [0.5, 0.5], 0, ("transition row 0", "nan")),
        ([[0.5, 0.5]], [0.0], 0, ("transition", "square")),
        ([["a"]], [0.0], 0, ("transition", "real numbers")),
        ([[0.5]], [0.5, 0.5], 0, ("stop", "shape")),
        ([[1.5]], [-0.5], 0, ("stop 0", "-0.5")),
        ([[0.5]], [0.5], 1, ("start", "0 to 0")),
        ([[0.5]], [0.5], [0.4], ("start", "sum")),
        ([[0.5]], [0.5], [0.5, 0.5], ("start", "shape")),
    ],
)
def test_bad_models_are_named(transition, stop, start, words: tuple[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        MarkovModel(transition, stop, start)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_log_models_are_checked_too() -> None:
    one = np.array([0])
    with pytest.raises(InputError, match="row 0"):
        MarkovModel.from_log(one, one, np.log([0.5]), np.log([0.4]))
    deep = MarkovModel.from_log(one, one, np.array([-5000.0]), np.array([0.0]))
    assert (deep.log_prob.tolist(), mean_length(deep)) == ([-5000.0], 0.0)
    with pytest.raises(InputError, match="labels"):
        MarkovModel([[0.5]], [0.5], 0, ["a", "b"])


# Files


def save(folder: Path, name: str, array: np.ndarray) -> Path:
    file = folder / name
    if file.suffix == ".npy":
        np.save(file, array)
    elif file.suffix == ".npz":
        sparse.save_npz(file, sparse.csr_array(array))
    elif file.suffix == ".csv":
        np.savetxt(file, array, delimiter=",")
    else:
        file.write_text(json.dumps(array.tolist()))
    return file


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".json"])
@pytest.mark.parametrize("stop_suffix", [".npy", ".csv", ".json", None])
def test_files_of_every_kind(tmp_path: Path, suffix: str, stop_suffix: str | None) -> None:
    stop = None if stop_suffix is None else save(tmp_path, f"e{stop_suffix}", E)
    model = from_files(save(tmp_path, f"a{suffix}", A), stop, 1)
    np.testing.assert_allclose(model.transition.toarray(), A, rtol=1e-14)
    np.testing.assert_allclose(model.stop, E, rtol=1e-14)
    assert model.start_state == 1


def test_bad_files_are_named(tmp_path: Path) -> None:
    good = save(tmp_path, "a.npy", A)
    (tmp_path / "bad.npy").write_bytes(b"no numbers")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    (tmp_path / "bad.csv").write_text("1,x\n")
    (tmp_path / "ragged.json").write_text("[[1], [1, 2]]")
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    for name in ("bad.npy", "bad.npz", "bad.csv", "ragged.json", "object.npy", "missing.npy", "a.txt", ""):
        with pytest.raises(InputError, match="transition"):
            from_files(tmp_path / name)
    with pytest.raises(InputError, match="stop"):
        from_files(good, tmp_path / "missing.json")
    with pytest.raises(InputError, match="stop 0"):
        from_files(save(tmp_path, "big.npy", np.array([[1.5]])))


# n-grams

LINES = [["a", "b", "a"], ["a", "b"], ["b"], ["c", "a", "b", "b"]]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("add_k", [0.0, 0.5])
def test_ngram_probabilities_are_ratios_of_counts(order: int, add_k: float) -> None:
    model = from_lines(LINES, order, add_k)
    assert model.labels is not None
    assert model.stops_surely
    matrix, grams, contexts = model.transition.toarray(), Counter(), Counter()
    for line in LINES:
        padded = ["^"] * (order - 1) + line + ["$"]
        for i in range(order - 1, len(padded)):
            grams[tuple(padded[i - order + 1 : i + 1])] += 1
            contexts[tuple(padded[i - order + 1 : i])] += 1
    index = {label: s for s, label in enumerate(model.labels)}
    for line in LINES:
        history, state = ["^"] * max(order - 1, 1), 0
        assert model.name(0) == " ".join(history)
        for token in [*line, "$"]:
            context = tuple(history[len(history) - order + 1 :])
            wanted = (grams[(*context, token)] + add_k) / (contexts[context] + add_k * 4)
            if token == "$":
                assert model.stop[state] == pytest.approx(wanted)
                break
            history = [*history, token][1:]
            after = index[" ".join(history)]
            assert matrix[state, after] == pytest.approx(wanted)
            state = after


def test_smoothing_backs_off_to_the_longest_known_context() -> None:
    model = from_lines(LINES, 3, 0.5)
    assert model.labels is not None
    # "c c" is not in the text, so after "^ c" a c leads to the context "c" alone, whose counts are those of c.
    s, t = model.labels.index("^ c"), model.labels.index("c")
    assert model.transition.toarray()[s, t] == pytest.approx(0.5 / (1 + 0.5 * 4))
    assert model.stop[t] == pytest.approx(0.5 / (1 + 0.5 * 4))
    assert all(len(set(row)) == 3 for row in np.split(model.target, model.n))


def test_the_state_after_any_token_is_the_longest_end_that_the_text_has() -> None:
    """Smoothed trigrams and more: of three tokens the last two may be known, or only the last one."""
    model = from_lines(LINES, 4, 0.5)
    assert model.labels is not None
    known = set()
    for line in LINES:
        padded = ["^", "^", "^", *line]
        for end in range(3, len(padded) + 1):
            known |= {tuple(padded[start:end]) for start in range(end - 3, end)}
    lengths = set()
    for state, label in enumerate(model.labels):
        context = tuple(label.split())
        found = {model.labels[t] for t in model.target[model.source == state]}
        after = {token: (*context, token)[-3:] for token in "abc"}
        longest = {next(after[t][i:] for i in range(3) if after[t][i:] in known) for t in after}
        assert found == {" ".join(one) for one in longest}
        lengths |= {len(one) for one in longest}
    assert lengths == {1, 2, 3}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6), min_size=1, max_size=6), st.integers(1, 4))
def test_an_unsmoothed_ngram_model_has_the_mean_length_of_its_lines_when_order_is_long(
    lines: list[list[str]], order: int
) -> None:
    if not any(lines):
        with pytest.raises(InputError, match="token"):
            from_lines(lines, order)
        return
    # Order 1 fits the mean length; any order fits the mean number of tokens of the maximum likelihood model.
    model = from_lines(lines, order)
    assert mean_length(model) == pytest.approx(sum(map(len, lines)) / len(lines), rel=1e-9)


def test_texts(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("ab a\n\nab\n", encoding="utf-8")
    words, letters = from_text(file, 2, "word"), from_text(file, 3)
    assert words.labels == ("^", "ab", "a")
    assert letters.labels is not None
    assert letters.labels[:3] == ("^^", "^a", "ab")
    for call, field in (
        (lambda: from_text(tmp_path / "missing", 2), "ngram"),
        (lambda: from_text(file, 0), "order"),
        (lambda: from_text(file, 2, "byte"), "unit"),
        (lambda: from_text(file, 2, "char", -1.0), "add-k"),
        (lambda: from_text(file, 2, "char", math.nan), "add-k"),
    ):
        with pytest.raises(InputError, match=field):
            call()
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="ngram"):
        from_text(file, 2)


# 10^5 states


def large(n: int, degree: int) -> MarkovModel:
    rng = np.random.default_rng(0)
    source, target = np.repeat(np.arange(n), degree), rng.integers(0, n, n * degree)
    weight, stop = rng.random(n * degree), 0.1 * rng.random(n)
    total = np.bincount(source, weights=weight) + stop
    return MarkovModel(sparse.csr_array((weight / total[source], (source, target)), shape=(n, n)), stop / total)


def test_a_hundred_thousand_states() -> None:
    begin = time.process_time()
    model = large(100_000, 4)
    spectrum = Spectrum(model)
    critical = critical_alpha(spectrum)
    assert critical is not None
    assert 0.9 < critical < 1.0
    for alpha in (1.0, 2.0):
        bracket = spectrum.bracket(alpha)
        assert bracket.upper - bracket.lower < 1e-9
    found = gap(model, 2.0, spectrum=spectrum)
    likely, mean, weighted = likeliest(model)[0], mean_mode(model), weighted_mode(model, 0.5)
    assert time.process_time() - begin < 60  # about 6 s
    # The Gibbs identity and a stochastic policy hold to rounding.
    sharp = power(model, 2.0, spectrum)
    assert 2.0 * found.power.log_prob + found.power.entropy == pytest.approx(sharp.log_partition[0], rel=1e-10)
    np.testing.assert_allclose(sharp.policy.transition.sum(axis=1) + sharp.policy.stop, 1.0, rtol=1e-12)
    # p itself sums to 1 from every state.
    np.testing.assert_allclose(power(model, 1.0, spectrum).log_partition[model.live.states], 0.0, atol=1e-9)
    assert mean.cycle_bound - mean.cycle_mean < 1e-10
    assert likely.score(0.5) <= weighted.score <= weighted.bound
    assert weighted.optimal


def test_iterative_and_direct_solutions_agree() -> None:
    # 5000 states go through GMRES, and LU of the same matrix is the oracle.
    model = large(5000, 3)
    live, alpha = model.live, 1.5
    matrix = sparse.csc_array(live.matrix(np.exp(alpha * live.log_prob)))
    v = splu(sparse.csc_array(sparse.identity(live.n) - matrix)).solve(np.exp(alpha * live.log_stop))
    np.testing.assert_allclose(power(model, alpha).log_partition[live.states], np.log(v), rtol=1e-10)


def test_a_corridor_of_many_states() -> None:
    # Iterative solvers would need as many products as states; the direct one takes over.
    n = 20_000
    steps = sparse.diags_array(np.full(n - 1, 0.999), offsets=1, shape=(n, n))
    model = MarkovModel(steps, [*([0.001] * (n - 1)), 1.0])
    assert mean_length(model) == pytest.approx(0.999 * (1 - 0.999 ** (n - 1)) / 0.001, rel=1e-9)
    assert critical_alpha(Spectrum(model)) is None
    found = mean_mode(model)
    assert found.sequence is not None
    assert found.sequence.length == n

"""pass@k, maj@k and their crossing against enumeration of all samples, exact fractions, SciPy and simulation."""

from __future__ import annotations

import itertools
import json
import math
import re
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multinomial

from sharpen.cli.main import main
from sharpen.objective import InputError, preset
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem
from sharpen.theory.optima.best_of_n import best_of_n
from sharpen.theory.optima.coverage import Prompt, coverage, crossover, mix_weights, pass_at_k, read_mix
from sharpen.theory.optima.majority import answer_classes, winner_probabilities
from sharpen.theory.optima.marginal import answer_optimum
from sharpen.theory.optima.mix import compare_coverage
from sharpen.theory.optima.optimum import optimum

DOCS = Path(__file__).parents[3] / "docs" / "theory-coverage.md"
EIGHTHS = st.lists(st.integers(0, 8), min_size=1, max_size=4).filter(lambda parts: 0 < sum(parts) <= 16)


def votes_by_enumeration(shares: list[Fraction], k: int) -> list[Fraction]:
    """P(answer wins) over all (m + 1)^k ordered samples; the last share is that of no answer."""
    wins = [Fraction(0)] * (len(shares) - 1)
    for sample in itertools.product(range(len(shares)), repeat=k):
        counts = [sample.count(a) for a in range(len(wins))]
        if max(counts) > 0:
            winners = [a for a, count in enumerate(counts) if count == max(counts)]
            for a in winners:
                wins[a] += math.prod((shares[i] for i in sample), start=Fraction(1)) / len(winners)
    return wins


@settings(max_examples=25)
@given(parts=EIGHTHS, k=st.integers(1, 5))
def test_a_vote_is_the_sum_over_all_samples(parts: list[int], k: int) -> None:
    shares = [Fraction(part, 16) for part in parts]
    exact = votes_by_enumeration([*shares, 1 - sum(shares, Fraction(0))], k)
    found = winner_probabilities([float(share) for share in shares], k)
    np.testing.assert_allclose(found, [float(win) for win in exact], atol=2e-15)


@pytest.mark.parametrize(
    ("q", "k"), [([0.4, 0.35, 0.15], 40), ([0.5, 0.2, 0.3], 61), ([0.02, 0.03, 0.01], 50), ([0.9, 0.05], 64)]
)
def test_a_vote_is_the_sum_over_all_counts(q: list[float], k: int) -> None:
    m = len(q)
    counts = np.array([c for c in itertools.product(range(k + 1), repeat=m) if sum(c) <= k])
    full = np.column_stack([counts, k - counts.sum(axis=1)])
    weight = multinomial.pmf(full, k, [*q, 1.0 - sum(q)])
    best = counts.max(axis=1, keepdims=True)
    share = (counts == best) & (best > 0)
    expected = (weight[:, None] * share / np.maximum(share.sum(axis=1, keepdims=True), 1)).sum(axis=0)
    np.testing.assert_allclose(winner_probabilities(q, k), expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 7, 100, 999, 10_000])
@pytest.mark.parametrize("q", [0.5, 0.501, 0.6, 0.97, 1e-9])
def test_two_answers_are_a_binomial(q: float, k: int) -> None:
    expected = binom.sf(k // 2, k, q) + (0.5 * binom.pmf(k // 2, k, q) if k % 2 == 0 else 0.0)
    assert winner_probabilities([q, 1.0 - q], k)[0] == pytest.approx(expected, abs=2e-12)


@pytest.mark.parametrize(("q", "k"), [([0.21, 0.2, 0.19, 0.2], 10_000), ([0.3, 0.29, 0.01], 997)])
def test_a_large_vote_agrees_with_simulation(q: list[float], k: int) -> None:
    rng = np.random.default_rng(5)
    draws = 40_000
    counts = rng.multinomial(k, [*q, 1.0 - sum(q)], size=draws)[:, : len(q)]
    share = counts == counts.max(axis=1, keepdims=True)
    share = share / share.sum(axis=1, keepdims=True)
    error = share.std(axis=0) / math.sqrt(draws)
    assert np.all(np.abs(winner_probabilities(q, k) - share.mean(axis=0)) < 4.5 * error + 1e-4)


@settings(max_examples=40)
@given(
    weights=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6).filter(lambda w: sum(w) > 0.1),
    none=st.floats(0.0, 0.9),
    k=st.sampled_from([1, 2, 3, 17, 300, 10_000]),
    seed=st.integers(0, 99),
)
def test_laws_of_votes(weights: list[float], none: float, k: int, seed: int) -> None:
    q = np.array(weights) / sum(weights) * (1.0 - none)
    wins = winner_probabilities(q, k)
    assert math.fsum(wins) == pytest.approx(1.0 - max(0.0, 1.0 - math.fsum(q)) ** k, abs=1e-11)
    order = np.random.default_rng(seed).permutation(q.size)
    np.testing.assert_allclose(winner_probabilities(q[order], k), wins[order], atol=1e-12)
    likelier = q[:, None] > q[None, :]
    assert np.all((wins[:, None] >= wins[None, :] - 1e-12) | ~likelier)  # the likelier answer wins more often
    if k == 1:
        np.testing.assert_allclose(wins, q, atol=1e-14)


@pytest.mark.parametrize("q", [[0.6, 0.6], [-0.1, 0.5], [float("nan")], [[0.5]], ["x"]])
def test_bad_answer_probabilities(q: list[float]) -> None:
    with pytest.raises(InputError, match="answer probabilities"):
        winner_probabilities(q, 3)


@pytest.mark.parametrize("k", [0, -1, 1.5, math.nan, True])
def test_bad_numbers_of_votes(k: float) -> None:
    with pytest.raises(InputError, match=r"^k: "):
        winner_probabilities([0.5], k)  # type: ignore[arg-type]


def test_votes_that_cannot_be_counted_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="merge answers"):
        winner_probabilities(np.full(5000, 2e-4), 10_000)


@given(q=st.one_of(st.floats(0.0, 1.0), st.floats(1e-300, 1e-3)), k=st.integers(1, 10_000))
def test_pass_at_k_in_sixty_digits(q: float, k: int) -> None:
    with mpmath.workdps(400):
        exact = 1 - (1 - mpmath.mpf(q)) ** k
        assert float(pass_at_k(q, k)) == pytest.approx(float(exact), rel=1e-12, abs=0.0)


def test_pass_at_k_refuses_bad_numbers() -> None:
    for q in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="success"):
            pass_at_k(q, 1)
    for k in (0, 1.5, math.nan, math.inf):
        with pytest.raises(InputError, match=r"^k: "):
            pass_at_k(0.5, k)


def crossover_by_fractions(base: list[int], other: list[int], weights: list[int], k_max: int) -> int | None:
    """The first k in exact arithmetic, success probabilities in 32nds."""
    b, o = ([1 - Fraction(x, 32) for x in given] for given in (base, other))
    for k in range(1, k_max + 1):
        if sum(w * (x**k - y**k) for w, x, y in zip(weights, b, o, strict=True)) < 0:
            return k
    return None


@settings(max_examples=150)
@given(rows=st.lists(st.tuples(st.integers(0, 32), st.integers(0, 32), st.integers(1, 9)), min_size=1, max_size=4))
def test_crossover_in_exact_arithmetic(rows: list[tuple[int, int, int]]) -> None:
    base, other, weights = (list(column) for column in zip(*rows, strict=True))
    found = crossover(np.array(base) / 32, np.array(other) / 32, weights, k_max=80)
    assert found == crossover_by_fractions(base, other, weights, 80)


def test_crossover_that_does_not_last_is_found() -> None:
    # Easy and hard prompts favour the other policy, the middle one the base: only a window of k favours the base.
    base, other, weights = [19, 11, 3], [6, 30, 11], [4, 8, 1]
    first = crossover_by_fractions(base, other, weights, 200)
    assert first == 6
    late = sum(w * ((1 - b / 32) ** 20 - (1 - o / 32) ** 20) for w, b, o in zip(weights, base, other, strict=True))
    assert late > 0
    assert crossover(np.array(base) / 32, np.array(other) / 32, weights) == 6


def test_late_crossover_by_a_full_scan() -> None:
    base = np.geomspace(5e-4, 0.1, 40)
    other = np.where(np.arange(40) < 1, 0.7, 1.2) * base
    found = crossover(base, other)
    k = np.arange(1, 30_001, dtype=np.longdouble)[:, None]
    gap = ((1 - base.astype(np.longdouble)) ** k - (1 - other.astype(np.longdouble)) ** k).sum(axis=1)
    assert found == int(np.argmax(gap < 0)) + 1
    assert found is not None
    assert found > 2000


def test_crossover_beyond_what_pass_at_k_resolves() -> None:
    # Both policies' pass@k round to 1 long before; the base fails less often all the same.
    with mpmath.workdps(300):
        w = [1e-30, 1.0]
        q = [0.5, 0.75], [0.375, 0.7500001]
        b, o = [mpmath.mpf("0.5"), mpmath.mpf("0.25")], [mpmath.mpf("0.625"), 1 - mpmath.mpf(0.7500001)]
        first = next(k for k in range(1, 500) if sum(s * (x**k - y**k) for s, x, y in zip(w, b, o, strict=True)) < 0)
        assert first > 50
        assert crossover(*q, w) == first


def test_no_crossover() -> None:
    assert crossover([0.3, 0.1], [0.3, 0.1]) is None
    assert crossover([0.3, 0.1], [0.4, 0.2]) is None
    assert crossover([1.0, 0.0], [1.0, 0.0]) is None
    assert crossover([0.9], [0.1], k_max=1) == 1
    assert crossover([0.3, 0.01], [0.6, 0.001], k_max=7) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ([0.5], [0.5, 0.1]),
        ([], []),
        ([1.2], [0.5]),
        ([0.5], [0.4], [-1.0]),
        ([0.5], [0.4], [0.0]),
        ([0.5], [0.4], None, 0),
    ],
)
def test_crossover_refuses(arguments: tuple) -> None:
    with pytest.raises(InputError):
        crossover(*arguments)


def test_a_mix_by_enumeration_of_samples() -> None:
    first = Prompt(Problem([0.5, 0.25, 0.25], [0, 1, 1]), [0, 1, 1], weight=3.0)
    second = Prompt(Problem([0.5, 0.125, 0.375], [1, 0, 0]), [4, 2, -1], weight=1.0)
    policies = [[0.25, 0.5, 0.25], [0.125, 0.625, 0.25]]
    k = 4
    exact_pass, exact_majority = 0.0, 0.0
    for prompt, policy in zip((first, second), policies, strict=True):
        classes, count = prompt.classes
        for sample in itertools.product(range(3), repeat=k):
            mass = math.prod(policy[i] for i in sample) * prompt.weight / 4.0
            exact_pass += mass * any(prompt.correct[i] for i in sample)
            votes = [sum(classes[i] == a for i in sample) for a in range(count)]
            tied = [a for a in range(count) if votes[a] == max(votes) > 0]
            right = {int(c) for c in classes[prompt.correct]}
            exact_majority += mass * sum(a in right for a in tied) / max(1, len(tied))
    found = coverage([first, second], policies, [1, k])
    assert found.maj_at_k is not None
    assert found.pass_at_k[1] == pytest.approx(exact_pass, abs=1e-14)
    assert found.maj_at_k[1] == pytest.approx(exact_majority, abs=1e-14)
    assert found.success.tolist() == [0.75, 0.125]
    assert found.pass_at_k[0] == found.maj_at_k[0] == pytest.approx(0.75 * 0.75 + 0.25 * 0.125)
    assert coverage([first, second], policies, [k], majority=False).maj_at_k is None


def test_sharpening_wins_at_one_sample_and_loses_at_many() -> None:
    prompts = [Prompt(Problem([0.6, 0.3, 0.1], [1, 0, 0])), Prompt(Problem([0.7, 0.25, 0.05], [0, 0, 1]))]
    sharp = [optimum(preset("tempered"), prompt.problem).probabilities for prompt in prompts]
    base = coverage(prompts, [prompt.problem.base for prompt in prompts], [1, 64])
    found = coverage(prompts, sharp, [1, 64])
    assert found.pass_at_k[0] > base.pass_at_k[0]
    assert found.pass_at_k[1] < base.pass_at_k[1]
    k = crossover(base.success, found.success, mix_weights(prompts))
    assert k is not None
    before, after = (pass_at_k(base.success, i).sum() - pass_at_k(found.success, i).sum() for i in (k - 1, k))
    assert before <= 0 < after


@pytest.mark.parametrize(("weights", "expected"), [((1, 1), 3), ((5, 1), 4), ((1, 5), 1)])
def test_a_mix_is_overtaken_where_exact_fractions_are(weights: tuple[int, int], expected: int) -> None:
    laws = [[Fraction(x, 100) for x in law] for law in ([60, 30, 10], [70, 25, 5])]
    prompts = [
        Prompt(Problem([float(p) for p in law], np.eye(3)[at]), weight=float(w))
        for law, at, w in zip(laws, (0, 2), weights, strict=True)
    ]
    base = [laws[0][0], laws[1][2]]
    sharp = [b**2 / sum(p**2 for p in law) for b, law in zip(base, laws, strict=True)]

    def covered(rates: list[Fraction], k: int) -> Fraction:
        missed = sum((w * (1 - q) ** k for w, q in zip(weights, rates, strict=True)), Fraction(0))
        return 1 - missed / sum(weights)

    assert next(k for k in range(1, 200) if covered(base, k) > covered(sharp, k)) == expected
    found = compare_coverage(preset("tempered"), prompts, [1, 9], majority=False)
    assert found.crossover == {"optimum": expected}
    for name, rates in (("base", base), ("optimum", sharp)):
        assert found.policies[name].pass_at_k == pytest.approx([float(covered(rates, k)) for k in (1, 9)])


def test_answer_labels() -> None:
    classes, count = answer_classes([5, -1, 10**12, 5], 4)
    assert (classes.tolist(), count) == ([0, -1, 1, 0], 2)
    assert answer_classes([-1, -1], 2)[1] == 0
    assert answer_classes(None, 3)[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("answers", [[0, 1], [0, 1, -2], [0, 1, 0.5], [0, 1, math.nan], "abc", [[0], [1], [2]]])
def test_bad_answers(answers: list[float]) -> None:
    with pytest.raises(InputError, match="answers"):
        Prompt(Problem([0.5, 0.3, 0.2], [0, 1, 0]), answers)


@pytest.mark.parametrize("answers", [[0, 0, 1], [0, -1, 1]])
def test_an_answer_is_right_or_wrong(answers: list[int]) -> None:
    with pytest.raises(InputError, match="all correct or all wrong"):
        Prompt(Problem([0.5, 0.3, 0.2], [0, 1, 0]), answers)


def test_no_answer_at_all_never_wins() -> None:
    prompt = Prompt(Problem([0.5, 0.5], [0, 0]), [-1, -1])
    found = coverage([prompt], [prompt.problem.base], [1, 10])
    assert found.maj_at_k is not None
    assert found.maj_at_k.tolist() == found.pass_at_k.tolist() == [0.0, 0.0]


def test_mix_files(tmp_path: Path) -> None:
    path = tmp_path / "mix.json"
    items = [
        {"base": [0.5, 0.5], "reward": [0, 1], "weight": 3},
        {"base": "zipf:3", "reward": "1", "length": [1, 2, 3], "answers": [0, 1, -1]},
    ]
    for content in (items, {"prompts": items}):
        path.write_text(json.dumps(content))
        prompts = read_mix(path)
        assert mix_weights(prompts).tolist() == [0.75, 0.25]
        assert prompts[1].problem.reward.tolist() == [0, 1, 0]
        assert prompts[1].labels.tolist() == [0, 1, -1]
        assert prompts[0].labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "JSON"),
        ("3", "list of prompts"),
        ("[]", "list of prompts"),
        ('{"prompts": []}', "list of prompts"),
        ("[3]", "prompt 0"),
        ('[{"base": [1.0]}]', "prompt 0"),
        ('[{"base": [1.0], "reward": [0], "color": 3}]', "prompt 0"),
        ('[{"base": [1.0], "reward": [0]}, {"base": [0.5], "reward": [0]}]', "prompt 1, base"),
        ('[{"base": [1.0], "reward": [0, 1]}]', "prompt 0, reward"),
        ('[{"base": [1.0], "reward": [0], "weight": 0}]', "prompt 0, weight"),
        ('[{"base": [1.0], "reward": [0], "weight": "1"}]', "prompt 0"),
        ('[{"base": [1.0], "reward": [1], "answers": [-1]}]', "prompt 0, answers"),
        ('[{"base": 1.0, "reward": "0"}]', "prompt 0"),
        ('[{"base": [1.0], "reward": [0], "weight": 1e999}]', "finite numbers"),
    ],
)
def test_bad_mix_files(content: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "mix.json"
    path.write_text(content)
    with pytest.raises(InputError, match=word):
        read_mix(path)


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["theory", "coverage", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


def run_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    code, out, err = run([*arguments, "--json"], capsys)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_json_holds_what_the_functions_return(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--base", "0.4,0.3,0.3", "--reward", "0,1,1", "--answers", "0,1,1", "--alpha", "3", "--k", "1,8"]
    report = run_json([*flags, "--best-of", "2.5", "--marginal"], capsys)
    prompt = Prompt(Problem([0.4, 0.3, 0.3], [0, 1, 1]), [0, 1, 1])
    spec = preset("tempered", alpha=3)
    expected = {
        "base": prompt.problem.base,
        "optimum": optimum(spec, prompt.problem).probabilities,
        "best_of_n": best_of_n(prompt.problem, 2.5),
        "marginal": answer_optimum(spec, prompt.problem, [0, 1, 1]),
    }
    assert list(report["policies"]) == list(expected)
    for name, policy in expected.items():
        found = coverage([prompt], [policy], [1, 8])
        assert found.maj_at_k is not None
        assert report["policies"][name]["pass_at_k"] == found.pass_at_k.tolist()
        assert report["policies"][name]["maj_at_k"] == found.maj_at_k.tolist()
        assert report["policies"][name]["success"] == found.success.tolist()
    assert report["k"] == [1, 8]
    assert report["crossover"] == {"optimum": 1, "best_of_n": 1, "marginal": None}
    assert report["prompts"][0]["mode_conflict"] is True
    assert report["prompts"][0]["answers"] == [0, 1, 1]


def test_a_mix_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mix.json"
    path.write_text(
        '[{"base": [0.6, 0.3, 0.1], "reward": [1, 0, 0]}, {"base": [0.7, 0.25, 0.05], "reward": [0, 0, 1]}]'
    )
    report = run_json(["--mix", str(path), "--no-majority", "--k-max", "2"], capsys)
    assert report["policies"]["base"]["maj_at_k"] is None
    assert report["policies"]["base"]["success"] == pytest.approx([0.6, 0.05])
    assert report["crossover"] == {"optimum": None}
    assert run_json(["--mix", str(path)], capsys)["crossover"]["optimum"] > 2
    code, out, err = run(["--mix", str(path), "--base", "zipf:3"], capsys)
    assert (code, out) == (2, "")
    assert "not both" in err


@pytest.mark.parametrize("arguments", [[], ["--best-of", "4", "--marginal", "--k", "1,10000"], ["--no-majority"]])
def test_the_coverage_table_fits_eighty_columns(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(arguments, capsys)
    assert code == 0
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert "…" not in out
    assert "0.3700" in out


@pytest.mark.parametrize("arguments", [[], ["--no-majority", "--best-of", "3"], ["--marginal", "--preset", "tilted"]])
def test_coverage_plots(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "coverage.png"
    assert run([*arguments, "--plot", str(path)], capsys)[0] == 0
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    assert run([*arguments, "--plot", str(path)], capsys)[0] == 0
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--k", "0"], "k"),
        (["--k", "1,x"], "k"),
        (["--k", ""], "k"),
        (["--k-max", "0"], "k_max"),
        (["--answers", "0,1"], "answers"),
        (["--answers", "0,0,1,1,2"], "answers"),
        (["--answers", "a"], "answers"),
        (["--best-of", "0.5"], "best-of"),
        (["--best-of", "nan"], "best-of"),
        (["--base", "zipf:20000", "--k", "10000"], "merge answers"),
        (["--mix", "missing.json"], "mix"),
        (["--plot", "figure.gif"], "figure"),
        (["--marginal", "--normalization", "mean"], "normalization"),
        (["--alpha", "-1"], "alpha"),
    ],
)
def test_bad_coverage_input(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert word in err


def test_the_documented_coverage_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DOCS.read_text(encoding="utf-8")
    content = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    block = re.search(r"```console\n\$ sharpen theory coverage(.*?)\n(.*?)```", text, re.DOTALL)
    assert content is not None
    assert block is not None
    monkeypatch.chdir(tmp_path)
    Path("mix.json").write_text(content[1])
    code, out, _ = run(block[1].split(), capsys)
    assert code == 0
    assert [line.rstrip() for line in out.strip().splitlines()] == block[2].strip().splitlines()


def test_the_default_problem_is_the_documented_one() -> None:
    assert Prompt(DEFAULT_PROBLEM).correct.tolist() == [False, True, False, True, False]

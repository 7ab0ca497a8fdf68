"""Derivatives, worst cases and noise against JAX, finite differences, all sign patterns, SciPy and simulation."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm

from sharpen.cli.main import main
from sharpen.objective import InputError, Objective, preset
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem
from sharpen.theory.optima.noise import compare_noise, exact_total_variation, flip_probability, noise_effect
from sharpen.theory.optima.optimum import optimum
from sharpen.theory.optima.sensitivity import SOURCES, flip_radius, jacobian, perturbed_policy, response, worst_case

DOCS = Path(__file__).parents[3] / "docs" / "theory-sensitivity.md"
OBJECTIVES = [
    Objective(alpha=2.0),
    Objective(alpha=0.5, beta_inv=3.0),
    Objective(alpha=4.0, normalization="mean"),
    Objective(alpha=1.25, beta_inv=2.0, normalization="weighted_mean", weight=0.5),
    Objective(alpha=3.0, normalization="none"),
]
PROBLEM = Problem([0.35, 0.3, 0.2, 0.1, 0.05], [0.0, 1.0, 0.25, 1.0, 0.0], [1, 4, 2, 8, 3])


def gibbs(objective: Objective, log_p, r, length, xp):
    """The optimum with entropy, from the table of regimes."""
    exponent = {"sum": 0.0, "none": 0.0, "mean": 1.0}.get(objective.normalization, objective.weight)
    assert exponent is not None
    extra = 0.0 if objective.normalization == "none" else objective.alpha - 1.0
    v = log_p + extra * log_p / length**exponent + objective.beta_inv * r
    w = xp.exp(v - v.max())
    return w / w.sum()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_jacobian_by_automatic_differentiation(objective: Objective) -> None:
    with jax.enable_x64(True):
        log_p, r, length = (jnp.asarray(x) for x in (PROBLEM.log_base, PROBLEM.reward, PROBLEM.length))
        by_likelihood, by_reward = jax.jacobian(lambda p, s: gibbs(objective, p, s, length, jnp), argnums=(0, 1))(
            log_p, r
        )
        expected = {"likelihood": np.asarray(by_likelihood), "reward": np.asarray(by_reward)}
    for source in SOURCES:
        np.testing.assert_allclose(jacobian(objective, PROBLEM, source), expected[source], atol=1e-14)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_jacobian_by_finite_differences_of_the_optimum(objective: Objective) -> None:
    step = 1e-5
    columns = []
    for j in range(PROBLEM.n):
        ends = [
            gibbs(
                objective,
                PROBLEM.log_base + sign * step * (np.arange(PROBLEM.n) == j),
                PROBLEM.reward,
                PROBLEM.length,
                np,
            )
            for sign in (1, -1)
        ]
        columns.append((ends[0] - ends[1]) / (2 * step))
    np.testing.assert_allclose(jacobian(objective, PROBLEM), np.stack(columns, axis=1), atol=1e-9)
    np.testing.assert_allclose(response(objective, PROBLEM, "reward").policy, optimum(objective, PROBLEM).probabilities)


def test_tempered_jacobian_is_the_closed_form() -> None:
    pi = PROBLEM.base**2.5 / np.sum(PROBLEM.base**2.5)
    expected = 2.5 * (np.diag(pi) - np.outer(pi, pi))
    np.testing.assert_allclose(jacobian(Objective(alpha=2.5), PROBLEM), expected, atol=1e-15)
    assert np.all(jacobian(Objective(alpha=2.5), PROBLEM, "reward") == 0.0)


def total_variation(found, error: np.ndarray) -> float:
    return 0.5 * float(np.abs(perturbed_policy(found, error) - found.policy).sum())


@st.composite
def cases(draw: st.DrawFn) -> tuple[Objective, Problem, float]:
    n = draw(st.integers(1, 7))
    base = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=n, max_size=n)))
    reward = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=n, max_size=n))
    length = draw(st.lists(st.integers(1, 6), min_size=n, max_size=n))
    objective = Objective(
        alpha=draw(st.sampled_from([0.5, 1.0, 2.0, 6.0])),
        beta_inv=draw(st.sampled_from([0.0, 1.0, 5.0])),
        mode=draw(st.sampled_from(["sampling", "sampling", "optimization"])),
        normalization=draw(st.sampled_from(["sum", "mean"])),
    )
    return objective, Problem(base / base.sum(), reward, length), draw(st.sampled_from([0.0, 0.01, 0.2, 1.0, 4.0]))


@settings(max_examples=150)
@given(case=cases(), source=st.sampled_from(SOURCES))
def test_worst_case_over_all_sign_patterns(case: tuple[Objective, Problem, float], source) -> None:
    objective, problem, epsilon = case
    found = response(objective, problem, source)
    patterns = itertools.product((-epsilon, epsilon), repeat=problem.n)
    expected = max(total_variation(found, np.array(pattern)) for pattern in patterns)
    worst = worst_case(found, epsilon)
    assert worst.exact
    assert worst.total_variation == pytest.approx(expected, abs=1e-12)
    assert worst.total_variation <= worst.bound + 1e-15
    assert total_variation(found, worst.perturbation) == pytest.approx(worst.total_variation, abs=1e-12)
    assert np.all(np.abs(worst.perturbation) <= epsilon)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_interior_error_is_worse_than_the_corners(objective: Objective) -> None:
    found, epsilon = response(objective, PROBLEM, "likelihood"), 0.4
    worst = worst_case(found, epsilon).total_variation
    rng = np.random.default_rng(2)
    best = 0.0
    for start in rng.uniform(-epsilon, epsilon, (12, PROBLEM.n)):
        result = minimize(
            lambda d: -total_variation(found, d), start, method="L-BFGS-B", bounds=[(-epsilon, epsilon)] * PROBLEM.n
        )
        best = max(best, -result.fun)
    assert best <= worst + 1e-12
    assert best > 0.95 * worst  # and the optimiser, from twelve starts, comes close


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 2.0])
def test_the_bound_is_attained(alpha: float, epsilon: float) -> None:
    # Two outcomes for which p^alpha gives the first the mass 1 / (1 + exp(alpha epsilon)).
    log_odds = -epsilon
    problem = Problem.from_log([log_odds - np.logaddexp(0, log_odds), -np.logaddexp(0, log_odds)], [0, 1])
    worst = worst_case(response(Objective(alpha=alpha), problem, "likelihood"), epsilon)
    assert worst.total_variation == pytest.approx(math.tanh(alpha * epsilon / 2), rel=1e-12, abs=0)
    assert worst.bound == pytest.approx(math.tanh(alpha * epsilon / 2), rel=1e-12, abs=0)
    assert worst.perturbation.tolist() == [epsilon, -epsilon]


def test_reward_errors_follow_beta_inv_and_vanish_without_reward() -> None:
    found = response(Objective(alpha=1.0, beta_inv=5.0), PROBLEM, "reward")
    assert worst_case(found, 0.1).bound == pytest.approx(math.tanh(5.0 * 0.1 / 2))
    assert worst_case(found, 0.0).total_variation == 0.0  # an exact verifier
    assert worst_case(response(preset("tempered"), PROBLEM, "reward"), 10.0).total_variation == 0.0


def test_large_alpha_flips_the_mode() -> None:
    epsilon = 1.01 * math.log(0.35 / 0.3) / 2
    changes = [
        worst_case(response(Objective(alpha=alpha), PROBLEM, "likelihood"), epsilon).total_variation
        for alpha in (1.0, 10.0, 100.0, 1000.0, 1e5)
    ]
    assert changes == sorted(changes)
    assert changes[-1] == pytest.approx(1.0, abs=1e-9)
    assert worst_case(response(preset("sharpening"), PROBLEM, "likelihood"), epsilon).total_variation == 1.0


@pytest.mark.parametrize("n", [16, 17, 18])
def test_subset_sums_against_all_corners(n: int) -> None:
    rng = np.random.default_rng(n)
    problem = Problem(rng.dirichlet(0.3 * np.ones(n)), np.zeros(n))
    found, epsilon = response(Objective(alpha=2.0), problem, "likelihood"), 0.9
    masks = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    m = masks @ found.policy
    t = math.exp(2 * 2.0 * epsilon)
    expected = np.max(m * t / (m * t + 1 - m) - m)
    assert worst_case(found, epsilon).total_variation == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("normalization", ["sum", "mean"])
@pytest.mark.parametrize("n", [40, 2000])
def test_many_outcomes_keep_within_the_bound(n: int, normalization: str) -> None:
    rng = np.random.default_rng(n)
    problem = Problem(rng.dirichlet(np.ones(n)), np.zeros(n), rng.integers(1, 9, n))
    found = response(Objective.model_validate({"alpha": 3.0, "normalization": normalization}), problem, "likelihood")
    worst = worst_case(found, 0.3)
    assert total_variation(found, worst.perturbation) == pytest.approx(worst.total_variation, rel=1e-9)
    assert worst.total_variation <= worst.bound + 1e-15
    draws = [total_variation(found, 0.3 * rng.choice([-1.0, 1.0], n)) for _ in range(300)]
    assert max(draws) <= worst.total_variation
    for i in range(min(n, 60)):  # no single exchange improves it
        error = worst.perturbation.copy()
        error[i] *= -1
        assert total_variation(found, error) <= worst.total_variation + 1e-12
    if normalization == "sum" and n == 2000:  # masses fine enough to meet the best one
        assert worst.total_variation == pytest.approx(worst.bound, abs=1e-6)


def test_extreme_sizes() -> None:
    found = response(Objective(alpha=1e6), PROBLEM, "likelihood")
    assert worst_case(found, 1e6).total_variation == 1.0
    uniform = Problem(np.full(40, 1 / 40), np.zeros(40))
    assert worst_case(response(Objective(alpha=1e6), uniform, "likelihood"), 1.0).total_variation == pytest.approx(
        39 / 40
    )
    assert worst_case(response(Objective(alpha=1e200), PROBLEM, "likelihood"), 1e200).total_variation == 1.0
    rare = Problem.from_log([0.0, -1e5], [0, 1])
    assert worst_case(response(Objective(), rare, "likelihood"), 0.1).total_variation == pytest.approx(0.0, abs=1e-300)
    assert worst_case(response(Objective(), Problem([1.0], [1]), "likelihood"), 1.0).total_variation == 0.0
    partial = Problem([0.6, 0.0, 0.4], [0, 1, 0])
    worst = worst_case(response(Objective(), partial, "likelihood"), 0.5)
    assert worst.perturbation[1] == 0.0
    assert worst.total_variation == pytest.approx(0.6 * 0.4 * math.expm1(1.0) / (1 + 0.4 * math.expm1(1.0)), rel=1e-12)


@pytest.mark.parametrize("epsilon", [0.9, 2.0, 5.0])
def test_far_errors_over_all_sign_patterns(epsilon: float) -> None:
    problem = Problem([0.35, 0.3, 0.2, 0.1, 0.05], [0, 1, 0, 1, 0], [1, 2, 1, 3, 1])
    for normalization in ("sum", "mean"):
        objective = Objective.model_validate({"alpha": 400.0, "normalization": normalization})
        found = response(objective, problem, "likelihood")
        expected = max(total_variation(found, np.array(p)) for p in itertools.product((-epsilon, epsilon), repeat=5))
        worst = worst_case(found, epsilon)
        assert worst.total_variation == pytest.approx(expected, abs=1e-12)
        assert total_variation(found, worst.perturbation) == pytest.approx(expected, abs=1e-12)


def test_a_task_reward_keeps_its_face_and_shares_it_by_the_base() -> None:
    found = response(preset("task-reward"), DEFAULT_PROBLEM, "likelihood")
    worst = worst_case(found, 0.2)
    assert np.flatnonzero(worst.perturbation).tolist() == [1, 3]
    m = np.array([12, 25]) / 37  # lift either of the correct outcomes
    t = math.exp(0.4)
    assert worst.total_variation == pytest.approx(np.max(m * t / (m * t + 1 - m) - m), rel=1e-12)
    by_reward = response(preset("task-reward"), DEFAULT_PROBLEM, "reward")
    assert worst_case(by_reward, 0.4).total_variation == pytest.approx(25 / 37)  # the tie breaks towards outcome 3
    assert worst_case(by_reward, 0.6).total_variation == 1.0  # a wrong outcome overtakes


@settings(max_examples=80)
@given(case=cases(), source=st.sampled_from(SOURCES))
def test_flip_radius_over_all_sign_patterns(case: tuple[Objective, Problem, float], source) -> None:
    objective, problem, _ = case
    found = response(objective, problem, source)
    radius = flip_radius(found)
    inside = found.level > -np.inf
    top = int(np.argmax(np.where(inside, found.level, -np.inf)))

    def can_flip(size: float) -> bool:
        corners = size * np.array(list(itertools.product((-1.0, 1.0), repeat=problem.n)))
        with np.errstate(invalid="ignore"):
            level = np.where(inside, found.level + found.gain * corners, -np.inf)
        return bool(np.any(level.argmax(axis=1) != top))

    if radius == np.inf:
        assert not can_flip(1e3)
    else:
        assert can_flip(radius * (1 + 1e-9) + 1e-9)
        assert radius == 0.0 or not can_flip(max(0.0, radius * (1 - 1e-9) - 1e-9))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: response(preset("tempered", reference="policy"), PROBLEM, "likelihood"), "reference"),
        (lambda: response(preset("tempered"), PROBLEM, "length"), "source"),  # type: ignore[arg-type]
        (lambda: response(Objective(alpha=1e308), PROBLEM, "likelihood"), "alpha"),
        (lambda: jacobian(preset("sharpening"), PROBLEM), "mode"),
        (lambda: jacobian(preset("tempered"), Problem(np.full(5000, 1 / 5000), np.zeros(5000))), "base"),
        (lambda: worst_case(response(preset("tempered"), PROBLEM, "reward"), -1.0), "epsilon"),
        (lambda: compare_noise(preset("tempered"), PROBLEM, math.nan), "noise-sd"),
        (lambda: compare_noise(preset("tempered"), PROBLEM, 1.0, draws=1), "draws"),
        (lambda: compare_noise(preset("tempered"), PROBLEM, 1.0, seed=-1), "seed"),
    ],
)
def test_refusals(call, word: str) -> None:
    with pytest.raises(InputError, match=word):
        call()


@pytest.mark.parametrize("sd", [0.01, 0.3, 5.0])
@pytest.mark.parametrize("name", ["tempered", "sharpening", "tilted", "task-reward"])
def test_two_outcomes_in_closed_form(name: str, sd: float) -> None:
    problem = Problem([0.6, 0.4], [0, 1])
    for source in SOURCES:
        found = response(preset(name), problem, source)
        finite = np.all(np.isfinite(found.level))
        spread = sd * math.hypot(*found.gain) if finite else 0.0
        expected = norm.cdf(-abs(found.level[0] - found.level[1]) / spread) if spread > 0 else 0.0
        assert flip_probability(found, sd) == pytest.approx(expected, abs=1e-11)
        if not finite:
            continue
        z = np.linspace(-10.0, 10.0, 200_001)
        odds = found.level[0] - found.level[1] + spread * z
        after = np.heaviside(odds, 0.5) if found.hard else expit(odds)
        smooth = float(np.trapezoid(np.abs(after - found.policy[0]) * norm.pdf(z), z))
        exact = exact_total_variation(found, sd)
        assert exact is not None
        assert exact == pytest.approx(smooth, abs=1e-4 if found.hard else 1e-8)
        effect = noise_effect(found, problem.reward, sd, draws=4000, seed=3)
        assert abs(effect.total_variation - exact) < 4.5 * effect.total_variation_se + 1e-4


@pytest.mark.parametrize("objective", [*OBJECTIVES, preset("sharpening"), preset("task-reward")])
@pytest.mark.parametrize("sd", [0.1, 1.0])
def test_the_simulation_agrees_with_the_integral(objective: Objective, sd: float) -> None:
    effects = compare_noise(objective, PROBLEM, sd, draws=4000, seed=1)
    for source in SOURCES:
        effect = effects[source]
        exact = effect.flip_probability
        assert abs(effect.flip_frequency - exact) < 4.5 * math.sqrt(exact * (1 - exact) / 4000) + 1e-3, source
        if response(objective, PROBLEM, source).hard and objective.regime == "sharpening":
            assert effect.total_variation == effect.flip_frequency  # an arg max moves altogether or not at all


def test_small_noise_is_the_jacobian_applied_to_it() -> None:
    sd = 1e-4
    found = response(Objective(alpha=3.0), PROBLEM, "likelihood")
    effect = noise_effect(found, PROBLEM.reward, sd, draws=20_000)
    rows = np.linalg.norm(jacobian(Objective(alpha=3.0), PROBLEM), axis=1)
    expected = 0.5 * sd * math.sqrt(2 / math.pi) * rows.sum()  # E|N(0, s^2)| = s sqrt(2/pi), each outcome
    assert abs(effect.total_variation - expected) < 4.5 * effect.total_variation_se + 1e-3 * expected


def test_noise_without_size_or_weight_does_nothing() -> None:
    for name in ("tempered", "sharpening"):
        effect = compare_noise(preset(name), DEFAULT_PROBLEM, 0.0, draws=10)["likelihood"]
        assert effect.total_variation == effect.flip_probability == effect.flip_frequency == 0.0
        effect = compare_noise(preset(name), DEFAULT_PROBLEM, 3.0, draws=10)["reward"]
        assert effect.total_variation == effect.flip_probability == effect.flip_frequency == 0.0


def test_noise_repeats_with_its_seed() -> None:
    first, again, other = (compare_noise(preset("tilted"), PROBLEM, 0.2, 50, seed)["reward"] for seed in (1, 1, 2))
    assert first == again != other


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["theory", "sensitivity", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


@pytest.mark.parametrize("name", ["tempered", "tilted", "sharpening", "task-reward"])
def test_json_of_the_sensitivity(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--preset", name, "--epsilon", "0.3", "--noise-sd", "0.2", "--draws", "500", "--seed", "7", "--json"]
    code, out, err = run(flags, capsys)
    assert (code, err) == (0, "")
    report = json.loads(out, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    noise = compare_noise(preset(name), DEFAULT_PROBLEM, 0.2, 500, 7)
    for source in SOURCES:
        found = response(preset(name), DEFAULT_PROBLEM, source)
        worst, given = worst_case(found, 0.3), report["sources"][source]
        assert given["worst_total_variation"] == worst.total_variation
        assert (given["bound"], given["exact"]) == (worst.bound, worst.exact)
        assert given["perturbation"] == worst.perturbation.tolist()
        assert given["gain"] == found.gain.tolist()
        assert given["flip_radius"] == (flip_radius(found) if flip_radius(found) < np.inf else None)
        assert given["noise"] == noise[source]._asdict()
    assert report["optimum"] == pytest.approx(optimum(preset(name), DEFAULT_PROBLEM).probabilities.tolist())
    assert report["reward"] == DEFAULT_PROBLEM.reward.tolist()
    assert [report[key] for key in ("epsilon", "noise_sd", "draws", "seed")] == [0.3, 0.2, 500, 7]


@pytest.mark.parametrize("arguments", [[], ["--preset", "sharpening"], ["--base", "zipf:100"], ["--epsilon", "1e-9"]])
def test_the_sensitivity_table_fits_eighty_columns(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([*arguments, "--draws", "200"], capsys)
    assert code == 0
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert "…" not in out
    assert "its bound" in out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--preset", "sharpening", "--epsilon", "0"],
        ["--base", "zipf:50", "--alpha", "2"],
        ["--preset", "task-reward"],
    ],
)
def test_sensitivity_plots(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sensitivity.svg"
    flags = [*arguments, "--draws", "100", "--plot", str(path)]
    assert run(flags, capsys)[0] == 0
    first = path.read_bytes()
    assert first.startswith(b"<?xml")
    assert run(flags, capsys)[0] == 0
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--epsilon", "nan"], "epsilon"),
        (["--epsilon=-1"], "epsilon"),
        (["--noise-sd", "inf"], "noise-sd"),
        (["--draws", "0"], "draws"),
        (["--draws", "100000000000"], "draws"),
        (["--seed=-1"], "seed"),
        (["--reference", "policy"], "reference"),
        (["--plot", "figure.txt"], "figure"),
        (["--base", "0.5"], "base"),
    ],
)
def test_bad_sensitivity_input(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert word in err


def test_the_documented_sensitivity_example(capsys: pytest.CaptureFixture[str]) -> None:
    pattern = r"```console\n\$ sharpen theory sensitivity(.*?)\n(.*?)```"
    blocks = re.findall(pattern, DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for flags, shown in blocks:
        code, out, _ = run(flags.split(), capsys)
        assert code == 0
        assert [line.rstrip() for line in out.strip().splitlines()] == shown.strip().splitlines()


@settings(max_examples=30)
@given(data=st.data())
def test_worst_changes_grow_with_the_error(data: st.DataObject, kit: SimpleNamespace) -> None:
    problem, objective = data.draw(kit.problems()), data.draw(kit.objectives(mode="sampling"))
    found = response(objective, problem, "likelihood")
    changes = [worst_case(found, epsilon).total_variation for epsilon in (0.0, 0.05, 0.2, 1.0, 5.0)]
    assert all(a <= b + 1e-15 for a, b in itertools.pairwise(changes))

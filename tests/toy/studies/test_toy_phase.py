"""A learner on the simplex: its exact mean field against enumeration and simulation, nullclines, pictures, films."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jsonschema
import numpy as np
import pytest
from PIL import Image
from scipy.optimize import brentq

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of
from sharpen.figures.theory.phase import CORNERS
from sharpen.figures.toy.phase import animate_runs
from sharpen.objective import InputError, Objective, preset
from sharpen.theory.core.flow import softmax_field, vector_field
from sharpen.theory.core.problem import Problem
from sharpen.theory.estimators import exact as estimators
from sharpen.theory.instability.phase import simplex_grid
from sharpen.theory.optima.optimum import optimum
from sharpen.toy.dynamics.updates import make
from sharpen.toy.learners.parts.learner import Options
from sharpen.toy.problems.policies import SEPARATE
from sharpen.toy.problems.setting import setting
from sharpen.toy.studies.phase import LearnerPortrait, learner_nullclines, learner_portrait, mean_velocity
from sharpen.toy.studies.phase_runs import runs_from

DOCS = Path(__file__).parents[3] / "docs" / "toy-phase.md"
PROBLEM = Problem([0.5, 0.3, 0.2], [0, 1, 0])
TILTED = Objective(alpha=1.5, beta_inv=2.0)
POLICIES = np.random.default_rng(0).dirichlet(np.ones(3), 12)


@lru_cache
def k3_in_the_loss() -> LearnerPortrait:
    return learner_portrait(preset("tempered"), PROBLEM, "rloo", group_size=2, kl="k3-loss")


def in_logits(velocity: np.ndarray, pi: np.ndarray) -> np.ndarray:
    """Return a velocity of probabilities as the centred velocity of logits."""
    rate = velocity / pi
    return rate - rate.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize("objective", [TILTED, Objective(alpha=2.0, reference="policy"), preset("task-reward")])
def test_an_unbiased_learner_moves_along_the_softmax_flow(objective: Objective) -> None:
    velocity = mean_velocity(objective, PROBLEM, "rloo", options_of(objective, 3), 0.2)
    expected = [softmax_field(objective, PROBLEM, pi) for pi in POLICIES]
    np.testing.assert_allclose(velocity(POLICIES), expected, atol=1e-13)


def options_of(objective: Objective, group_size: int, kl: str = "k1-reward") -> Options:
    return Options(group_size=group_size, kl=kl, reference_moves=objective.refresh_every is not None)


def test_grpo_is_the_theorys_enumeration() -> None:
    velocity = mean_velocity(TILTED, PROBLEM, "grpo", options_of(TILTED, 4), 0.2)(POLICIES)
    for pi, found in zip(POLICIES, velocity, strict=True):
        given = estimators.setting(TILTED, PROBLEM, pi, 4)
        expected = estimators.policy_gradient_estimate(given, "grpo").expectation
        np.testing.assert_allclose(in_logits(found, pi), expected - expected.mean(), atol=1e-4)  # the floor of std


def test_ppo_is_the_mean_of_its_simulated_updates() -> None:
    """The learner itself, 40,000 times: four epochs of a batch, which no closed form covers."""
    eta, options = 0.5, Options(group_size=4, reference_moves=False, noisy_reward=False)
    velocity = mean_velocity(TILTED, PROBLEM, "ppo", options, eta)(PROBLEM.base[None])[0]
    with jax.enable_x64():
        learner = make("ppo", setting(TILTED, PROBLEM, eta), SEPARATE, options)
        state = learner.init(jax.random.key(0))
        keys = jax.random.split(jax.random.key(1), 40_000)
        ends = np.asarray(jax.jit(jax.vmap(lambda key: learner.step(state, key).parameters.theta[0]))(keys))
    moved = (ends - np.log(PROBLEM.base)) / eta
    moved -= moved.mean(axis=1, keepdims=True)
    error = moved.std(axis=0, ddof=1) / np.sqrt(len(moved))
    assert np.all(np.abs(moved.mean(axis=0) - in_logits(velocity, PROBLEM.base)) < 4.5 * error)
    assert np.all(error < 0.02 * np.abs(velocity).max())  # close enough to tell


@pytest.mark.parametrize("learner", ["natural", "softmax"])
def test_exact_learners_have_the_theorys_field(learner: str) -> None:
    found = learner_portrait(TILTED, PROBLEM, learner)
    field = vector_field if learner == "natural" else softmax_field
    np.testing.assert_allclose(found.velocity(POLICIES), [field(TILTED, PROBLEM, pi) for pi in POLICIES], atol=1e-13)
    assert found.rest == ()
    assert found.cosine == pytest.approx(1.0)
    assert found.gain == pytest.approx(1.0)


def test_k3_in_the_loss_rests_where_its_expected_gradient_vanishes() -> None:
    """By the theory's enumeration, off the Gibbs optimum; its own code finds the class stable."""
    (rest,) = k3_in_the_loss().rest
    given = estimators.setting(preset("tempered"), PROBLEM, rest.policy, 1)
    reward = rest.policy * (PROBLEM.log_base - rest.policy @ PROBLEM.log_base)  # alpha - 1 = 1
    np.testing.assert_allclose(reward - estimators.kl_estimate(given, "k3", "loss").expectation, 0.0, atol=1e-9)
    best = optimum(preset("tempered"), PROBLEM).probabilities
    assert rest.kind == "stable"
    assert rest.kl_optimum == pytest.approx(float(rest.policy @ np.log(rest.policy / best)))
    assert rest.kl_optimum is not None
    assert rest.kl_optimum > 1e-4


def test_an_unbiased_learner_rests_at_the_gibbs_optimum() -> None:
    found = learner_portrait(TILTED, PROBLEM, "rloo", group_size=2)
    (rest,) = found.rest
    np.testing.assert_allclose(rest.policy, optimum(TILTED, PROBLEM).probabilities, atol=1e-9)
    softmax = next(
        values
        for point, values in zip(found.theory.points, found.theory.eigenvalues, strict=True)
        if len(point.support) == 3
    )
    np.testing.assert_allclose(rest.eigenvalues, softmax, rtol=1e-5)
    assert found.cosine == pytest.approx(1.0)


def test_a_baseline_with_its_own_sample_halves_the_gradient_of_two() -> None:
    found = learner_portrait(TILTED, PROBLEM, "dr-grpo", group_size=2)
    assert (found.cosine, found.gain) == (pytest.approx(1.0), pytest.approx(0.5))


def test_nullclines_are_where_the_field_changes_sign() -> None:
    """Between two policies at which a rate has opposite signs, brentq's zero lies on a drawn curve, and back."""
    found = k3_in_the_loss()
    curves = learner_nullclines(found)
    rng = np.random.default_rng(1)
    ends = rng.dirichlet(2 * np.ones(3), (30, 2))
    crossed = 0
    for i in range(3):
        drawn = np.concatenate(curves[i])
        for a, b in ends:

            def rate(t: float, a: np.ndarray = a, b: np.ndarray = b, i: int = i) -> float:
                return float(found.velocity(((1 - t) * a + t * b)[None])[0, i])

            if rate(0.0) * rate(1.0) < 0:
                zero: Any = brentq(rate, 0.0, 1.0, xtol=1e-6)
                place = (1 - zero) * a + zero * b
                assert np.linalg.norm(drawn - place, axis=1).min() < 0.02
                crossed += 1
        speed = np.linalg.norm(found.velocity(drawn), axis=1)
        assert np.all(np.abs(found.velocity(drawn)[:, i]) < 0.03 * speed.max())
    assert crossed > 10


@pytest.mark.parametrize(
    ("learner", "more", "field"),
    [
        ("tb", {}, "learner"),
        ("luck", {}, "learner"),
        ("rloo", {"group_size": 1}, "group_size"),
        ("rloo", {"group_size": 65}, "group_size"),
        ("rloo", {"kl": "k4-loss"}, "kl"),
        ("natural", {"step_size": 3.0}, "step_size"),
    ],
)
def test_bad_input(learner: str, more: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        learner_portrait(preset("tempered"), PROBLEM, learner, **more)
    assert caught.value.field == field


# Runs and films.


def test_runs_start_where_they_are_told_and_keep_the_base_as_reference() -> None:
    """The natural gradient in closed form: log pi_t = (1 - eta)^t log pi_0 + (1 - (1 - eta)^t) 2 log p + constant."""
    starts = simplex_grid(3)
    updates, policies = runs_from(
        preset("tempered"), PROBLEM, "natural", starts, options=Options(), step_size=0.1, steps=30, records=10
    )
    assert updates.tolist() == list(range(0, 31, 3))
    for t, at in zip(updates, policies, strict=True):
        kept = 0.9**t
        expected = kept * np.log(starts) + (1 - kept) * 2 * np.log(PROBLEM.base)
        expected = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(at, expected, rtol=1e-10)


def test_bad_runs() -> None:
    for starts, records in ((simplex_grid(2), 50), (np.array([[1.0, 0.0, 0.0]]), 5), (np.zeros((0, 3)), 5)):
        with pytest.raises(InputError):
            runs_from(
                preset("tempered"),
                PROBLEM,
                "natural",
                starts,
                options=Options(),
                step_size=0.1,
                steps=9,
                records=records,
            )


@pytest.fixture(scope="module")
def film() -> tuple[LearnerPortrait, np.ndarray, np.ndarray]:
    found = learner_portrait(preset("tempered"), PROBLEM, "natural")
    updates, policies = runs_from(
        preset("tempered"), PROBLEM, "natural", simplex_grid(2), options=Options(), step_size=0.1, steps=20, records=5
    )
    return found, updates, policies


def purple(picture: np.ndarray) -> np.ndarray:
    """Return the mask of pixels in the colour of the runs."""
    return np.linalg.norm(picture.astype(float) - np.array([0x33, 0x22, 0x88]), axis=-1) < 60


def test_a_gif_has_a_frame_a_record_with_the_runs_in_their_places(film: tuple, tmp_path: Path) -> None:
    found, updates, policies = film
    path = animate_runs(preset("tempered"), PROBLEM, found, updates.tolist(), policies, tmp_path / "new" / "runs.gif")
    with Image.open(path) as image:
        frames = getattr(image, "n_frames", 1)
        assert frames == len(updates)
        pictures = []
        for k in range(frames):
            image.seek(k)
            pictures.append(np.asarray(image.convert("RGB")))
    spread = []
    for picture, at in zip(pictures, policies, strict=True):
        rows, columns = np.nonzero(purple(picture))
        assert len(rows) > 20
        places = at @ CORNERS
        spread.append((np.ptp(columns), np.ptp(places[:, 0])))
    pixels, distances = np.array(spread).T
    # The runs' horizontal extent, measured in the pictures (dot included) and known: the scale is that of the axes.
    scale = np.polyfit(distances, pixels, 1)
    np.testing.assert_allclose(np.polyval(scale, distances), pixels, atol=6)
    assert pixels[-1] < 0.6 * pixels[0]  # they contract to the optimum
    first = path.read_bytes()
    again = animate_runs(preset("tempered"), PROBLEM, found, updates.tolist(), policies, path)
    assert again.read_bytes() == first


def test_an_mp4_shows_the_same_frames(film: tuple, tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    found, updates, policies = film
    names = (tmp_path / "runs.mp4", tmp_path / "runs.gif")
    movie, still = (
        animate_runs(preset("tempered"), PROBLEM, found, updates.tolist(), policies, name) for name in names
    )
    frames = ffmpeg.read_frames(str(movie))
    width, height = next(frames)["size"]
    pictures = [np.frombuffer(frame, np.uint8).reshape(height, width, 3).astype(float) for frame in frames]
    with Image.open(still) as image:
        others = []
        for k in range(getattr(image, "n_frames", 1)):
            image.seek(k)
            others.append(np.asarray(image.convert("RGB")).astype(float))
    distance = [[np.abs(picture - other).mean() for other in others] for picture in pictures]
    assert np.argmin(distance, axis=1).tolist() == list(range(len(updates)))  # each is its own frame of the GIF
    assert np.min(distance, axis=1).max() < 8.0  # of 255: the codec's loss and the GIF's palette


# The command.


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["toy", "phase", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


def test_the_command_draws_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, movie = tmp_path / "phase.png", tmp_path / "phase.gif"
    flags = ["--learner", "rloo", "--group-size", "2", "--kl", "k3-loss", "--plot", str(picture), "--json"]
    films = ["--animate", str(movie), "--runs", "3", "--steps", "4", "--frames", "9"]
    code, out, err = run([*flags, *films], capsys)
    assert (code, err) == (0, "")
    report = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    jsonschema.validate(report, schema_of("toy phase"))
    (rest,) = report["learner"]["rest_points"]
    np.testing.assert_allclose(rest["probabilities"], k3_in_the_loss().rest[0].policy)
    assert len(report["fixed_points"]) == 7
    assert all(len(curves) > 0 for curves in report["nullclines"])
    with Image.open(movie) as image:
        assert getattr(image, "n_frames", 1) == 5
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for color in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x88, 0x22, 0x55)):  # the three nullclines
        assert np.sum(np.abs(pixels - color).sum(axis=-1) < 12) > 300


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--learner", "tb"], "learner"),
        (["--base", "uniform:4"], "base"),
        (["--animate", "film.avi"], "animation file"),
        (["--plot", "figure.gif", "--learner", "softmax"], "figure file"),
        (["--learner", "softmax", "--animate", "/proc/none/film.gif", "--steps", "3"], "animation file"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"error: {word}")


def test_the_documented_examples_are_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    blocks = re.findall(r"```console\n\$ sharpen toy phase(.*?)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) == 1
    for flags, shown in blocks:
        code, out, _ = run(flags.split(), capsys)
        assert code == 0
        lines = [line.rstrip() for line in out.strip().splitlines()]
        assert lines == shown.strip().splitlines()
        assert max(map(len, lines)) <= 80

"""Every number that theory and toy commands take, at its worst: one line that names the flag, or finite results.

The commands and their flags are found through the app, so that a new flag is tested without being named here. Bad files
and texts are in test_bad_inputs.py.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from sharpen.cli.main import main
from sharpen.toy.dynamics.measures import mean_interval
from sharpen.toy.dynamics.signal_to_noise import ratio_of_draws
from tests.cli.shared.commands import leaves

# Kinds of bad values: of each, every flag is given one, and different flags different ones.
NO_NUMBERS = ("nan", "inf", "-inf", "")  # of no flag
FLOATS = (NO_NUMBERS, ("1e30",), ("1e300",), ("0", "-1", "-1e300"))
WHOLE = (NO_NUMBERS, ("1e30", "1.5", "1e300"), ("0", "-1", str(-(10**30))), (str(10**30), str(2**63), str(2**64)))
# Lists of numbers, which are texts to typer.
LISTS = {
    "theory length": {"alphas"},
    "theory optimum": {"kl"},
    "theory coverage": {"k"},
    "theory sequences": {"reward_states"},
    "toy sweep": {
        *("alpha", "beta_inv", "weight", "step_size", "group_size", "reward_noise", "base_noise"),
        *("true_positive", "false_positive"),
        *("prompt_weights", "start", "record_at", "k"),
    },
}
PROBLEM = {"base", "reward", "length", "policy", "answers", "tokens"}  # numbers among other forms
FAST: dict[str, list[str]] = {
    "theory derive": ["T1"],
    "theory length": ["--hazard", "0.2"],
    "theory sequences": ["--hazard", "0.2"],
    "toy simulate": ["--learner", "rloo", "--preset", "tempered", "--steps", "20", "--seeds", "2", "--out", "run"],
    "toy watch": ["--learner", "rloo", "--preset", "tempered", "--steps", "20", "--seeds", "2"],
    "toy phase": ["--group-size", "3"],
    "toy sweep": ["--steps", "20", "--seeds", "2", "--out", "run"],
    "toy findings": ["--out", "run", "mode"],
    "toy learners": ["--out", "run", "rloo"],
    "toy target": ["--out", "run", "alpha"],
}
# Beside what a flag has an effect.
BESIDE: dict[tuple[str, str], list[str]] = {
    **{
        (command, "weight"): ["--normalization", "weighted_mean"]
        for command in (
            *("theory fixed-points", "theory phase", "theory estimators", "theory coverage", "theory sensitivity"),
            *("theory optimum", "theory response", "theory self-sharpening", "toy sweep", "toy phase", "toy watch"),
            "toy simulate",
        )
    },
    **{
        (command, name): ["--beta-inv", "2"]
        for command in ("toy simulate", "toy sweep")
        for name in ("true_positive", "false_positive")
    },
    **{
        ("toy sweep", name): ["--policy", "machine", "--longest", "4"]
        for name in ("tokens", "hazard", "longest", "start", "correct")
    },
}


LEAVES = dict(leaves())


def numeric_flags() -> Iterator[tuple[str, str, str, tuple[tuple[str, ...], ...]]]:
    """Yield the command, the flag, what the flag is called inside, and kinds of bad values."""
    for command, leaf in LEAVES.items():
        if command.split()[0] not in ("theory", "toy"):
            continue
        for parameter in leaf.params:
            kind = getattr(parameter.type_descriptor, "annotation", None)
            worst = {float: FLOATS, int: WHOLE}.get(kind, FLOATS if parameter.name in LISTS.get(command, ()) else ())
            if worst and parameter.opts[0].startswith("--"):
                yield command, parameter.opts[0], parameter.name, worst


def takes_json(command: str) -> bool:
    return any("--json" in parameter.opts for parameter in LEAVES[command].params)


FLAGS = list(numeric_flags())
CASES = [
    (command, flag, name, of_kind[place % len(of_kind)])
    for place, (command, flag, name, kinds) in enumerate(FLAGS)
    for of_kind in kinds
]


def test_every_command_is_there() -> None:
    assert {command for command, *_ in FLAGS} == {name for name in LEAVES if name.split()[0] in ("theory", "toy")}
    assert len(FLAGS) > 100
    for command, flags in LISTS.items():
        assert flags <= {name for of, _, name, _ in FLAGS if of == command}


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} in JSON")


@pytest.mark.parametrize(
    ("command", "flag", "name", "value"),
    CASES,
    ids=[f"{command} {flag}={value[:8]}" for command, flag, _, value in CASES],
)
def test_a_line_or_finite_numbers(
    command: str,
    flag: str,
    name: str,
    value: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    as_json = ["--json"] if takes_json(command) else []
    given = [*FAST.get(command, []), *BESIDE.get((command, name), []), f"{flag}={value}", *as_json]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(SystemExit) as exited:
            main([*command.split(), *given])
    printed = capsys.readouterr()
    if exited.value.code == 0:
        assert value not in NO_NUMBERS
        assert printed.err == ""
        if as_json:
            assert json.loads(printed.out, parse_constant=refuse)
        else:
            assert not re.search(r"\b(nan|inf|None)\b", printed.out)
        return
    assert exited.value.code == 2, printed
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    called = "|".join(re.escape(one).replace(r"\-", "[-_ ]").replace("_", "[-_ ]") for one in (flag[2:], name))
    assert re.search(rf"\b({called})\b", printed.err), printed.err
    assert list(tmp_path.iterdir()) == []


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as exited:
        main(list(arguments))
    return exited.value.code


@pytest.mark.parametrize("alpha", ["1e30", "1e300"])
@pytest.mark.parametrize(("base", "best"), [("0.4,0.4,0.2", [0.5, 0.5, 0.0]), ("0.2,0.5,0.3", [0.0, 1.0, 0.0])])
def test_a_huge_alpha_is_the_limit(
    alpha: str, base: str, best: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """T3: p^alpha goes to the uniform distribution on the arg max of p."""
    flags = ["--mode", "sampling", "--alpha", alpha, "--base", base, "--reward", "1", "--json"]
    assert run("theory", "fixed-points", *flags) == 0
    optimum = json.loads(capsys.readouterr().out)["optimum"]
    assert optimum["probabilities"] == pytest.approx(best, abs=1e-12)
    assert optimum["expected_reward"] == pytest.approx(best[1], abs=1e-12)
    assert optimum["value"] == pytest.approx(float(alpha) * math.log(max(map(float, base.split(",")))))
    assert run("theory", "optimum", *flags) == 0
    optimum = json.loads(capsys.readouterr().out)["optimum"]
    assert optimum["expected_reward"] == pytest.approx(best[1], abs=1e-12)
    assert optimum["entropy"] == pytest.approx(math.log(round(1 / max(best))), abs=1e-12)


@pytest.mark.parametrize("learner", ["natural", "rloo"])
def test_a_learners_portrait_at_a_huge_alpha(learner: str, capsys: pytest.CaptureFixture[str]) -> None:
    huge = {"natural": "1e300", "rloo": "1e99"}[learner]
    group = ["--group-size", "3"] if learner == "rloo" else []
    assert run("toy", "phase", "--learner", learner, "--alpha", huge, *group, "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=refuse)["learner"]
    assert found["cosine_at_base"] == pytest.approx(1.0)  # RLOO is unbiased


LISTED = {
    "no matrix": (["theory", "sequences", "--transition", "FILE"], "transition: got 'shape [2]'"),
    "no points": (["theory", "response", "--points", "0"], "points: got 0"),
    "no points of a frontier": (["theory", "optimum", "--kl", "0.1", "--points", "0", "--json"], "points: got 0"),
    "booleans": (["theory", "optimum", "--base", "[true,false]"], "base: got '[true,false]'"),
    "weight": (["theory", "optimum", "--weight=-1"], "weight: got -1.0 with normalization sum"),
    "step size": (["toy", "simulate", "--step-size", "nan"], "step_size"),
    "step size of a sweep": (["toy", "sweep", "--step-size", "nan"], "step_size.0: got 'nan'"),
    "tokens": (["toy", "sweep", "--tokens", "0.5,0.5"], "tokens: got"),
    "start": (["toy", "sweep", "--start", "0"], "start: got"),
    "correct": (["toy", "sweep", "--correct", "1"], "correct: got 1"),
    "frames": (["toy", "watch", "--steps", "9", "--every", "10"], "every: got 10"),
    "weights beyond squares": (["toy", "sweep", "--alpha", "1,1e200"], "alpha=1e+200"),
    "steps beyond squares": (["toy", "simulate", "--step-size", "1e120", "--learner", "rloo"], "step_size=1e+120"),
    "natural step": (["toy", "simulate", "--step-size", "3", "--learner", "natural"], "step_size: got 3.0"),
}


@pytest.mark.parametrize("what", LISTED)
def test_listed(what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "one.json").write_text("[0.5, 0.4]")
    monkeypatch.chdir(tmp_path / "work")
    arguments, said = LISTED[what]
    assert run(*(str(tmp_path / "one.json") if part == "FILE" else part for part in arguments)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert list((tmp_path / "work").iterdir()) == []


def test_a_run_that_diverges_says_so_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--learner", "softmax,tb", "--preset", "tempered", "--steps", "20", "--seeds", "2"]
    assert run("toy", "simulate", *flags, "--step-size", "1e20", "--out", str(tmp_path / "run")) == 2
    err = capsys.readouterr().err
    assert "step_size: got 1e+20" in err
    assert "tempered/tb diverged" in err
    assert list(tmp_path.iterdir()) == []


def test_statistics_of_huge_numbers() -> None:
    samples = np.array([1.0, 2.0, 4.0, 3.0])
    (mean, interval), (huge, wide) = mean_interval(samples), mean_interval(samples * 2.0**1000)
    assert interval is not None
    assert wide == [end * 2.0**1000 for end in interval]
    assert huge == mean * 2.0**1000
    draws = np.random.default_rng(0).normal(size=(64, 3)) + 1.0
    assert ratio_of_draws(draws * 2.0**900) == ratio_of_draws(draws) == ratio_of_draws(draws * 2.0**-900)

"""``sharpen theory length`` and ``sharpen theory sequences``: sequence models with a stop token."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.theory.sequences import Gap, IidModel, LengthPoint, MarkovModel, ScoredSequence

MODEL = "Sequence model"
DEFAULT_HAZARD = 0.05
LONGEST_NAME = 40  # characters of a sequence in a table
TOP_ALPHA = 2.0  # where a figure ends unless it has to show more
MANY_STATES = 5000  # above it a figure takes fewer points


def _flag(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=MODEL, show_default=False)


@dataclass(frozen=True)
class SequenceFlags:
    """A sequence model's flags as given: independent tokens, a matrix in files, or an n-gram model of a text."""

    tokens: Annotated[
        str | None,
        _flag("Independent tokens: q1,q2,...  zipf:N  uniform:N  or a file. Default 0.40,0.25,0.15,0.12,0.08."),
    ] = None
    hazard: Annotated[float | None, _flag("Probability to stop before each of them. Default 0.05.")] = None
    transition: Annotated[Path | None, _flag("Transition matrix: .npy, .npz (sparse), .csv or .json.")] = None
    stop: Annotated[
        Path | None, _flag("Stop probabilities: .npy, .csv or .json. Default: what the rows leave of 1.")
    ] = None
    start: Annotated[int | None, _flag("Start state of the matrix. Default 0.")] = None
    ngram: Annotated[Path | None, _flag("Text file whose lines are sequences.")] = None
    order: Annotated[int | None, _flag("n of the n-gram model. Default 2.")] = None
    unit: Annotated[str | None, _flag("Tokens of the text: char or word. Default char.")] = None
    add_k: Annotated[float | None, _flag("Add-k smoothing of the counts. Default 0.")] = None

    def build(self) -> IidModel | MarkovModel:
        """Return the model that the flags name.

        Raises:
            InputError: flags of two models are mixed, or one cannot be read.
        """
        from sharpen.objective import InputError
        from sharpen.theory.core.problem import DEFAULT_PROBLEM, parse_base
        from sharpen.theory.sequences import IidModel, from_files, from_text

        groups = {"tokens": ("tokens", "hazard"), "transition": ("transition", "stop", "start")}
        groups["ngram"] = ("ngram", "order", "unit", "add_k")
        given = {kind: [name for name in names if getattr(self, name) is not None] for kind, names in groups.items()}
        used = [kind for kind, names in given.items() if names]
        if len(used) > 1:
            wanted = "flags of one model: --tokens and --hazard, --transition and its, or --ngram and its"
            raise InputError(given[used[1]][0].replace("_", "-"), f"also --{given[used[0]][0]}", wanted)
        if used and used[0] != "tokens" and getattr(self, used[0]) is None:
            raise InputError(given[used[0]][0].replace("_", "-"), "no model", f"--{used[0]} FILE with it")
        if self.transition is not None:
            return from_files(self.transition, self.stop, 0 if self.start is None else self.start)
        if self.ngram is not None:
            order = 2 if self.order is None else self.order
            return from_text(self.ngram, order, self.unit or "char", 0.0 if self.add_k is None else self.add_k)
        try:
            q = DEFAULT_PROBLEM.base if self.tokens is None else parse_base(self.tokens)
        except InputError as error:
            raise InputError("tokens", error.value, error.allowed) from error
        return IidModel(q, DEFAULT_HAZARD if self.hazard is None else self.hazard)

    def describe(self, model: IidModel | MarkovModel) -> dict[str, Any]:
        """Return the model's kind and size, as JSON types."""
        from sharpen.theory.sequences import IidModel

        if isinstance(model, IidModel):
            return {"kind": "iid", "tokens": model.tokens.tolist(), "hazard": model.hazard}
        size = {"states": model.n, "transitions": model.m, "live_states": model.live.n}
        return {"kind": "markov" if self.ngram is None else "ngram", **size}

    def token(self, model: MarkovModel, state: int) -> str:
        """Return the last token of a state, for people."""
        name = model.name(state)
        if self.ngram is None:
            return name
        return name.split()[-1] if self.unit == "word" else name[-1]


def register(app: typer.Typer) -> None:
    """Add the commands to a group."""
    app.command("length")(length)
    app.command("sequences")(sequences)


@options.flat
def length(
    chosen: SequenceFlags,
    alpha: Annotated[float, typer.Option(help="Exponent of p^alpha, >= 0.")] = 1.25,
    alphas: Annotated[str | None, typer.Option(help="More exponents, as a1,a2,...: one row each.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw mean length against alpha to a .png, .pdf or .svg file.")
    ] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Say how long the sequences of p^alpha are, and below which alpha there is no such distribution.

    Lengths count tokens before the stop. Without a model's flags: five tokens, stop hazard 0.05.
    """
    from sharpen.theory.sequences import IidModel, LengthCurve

    model = chosen.build()
    more = _numbers(alphas) if alphas is not None else []
    curve = LengthCurve(model)
    base, point, rows = curve.point(1.0), curve.point(alpha), [curve.point(number) for number in more]
    if plot is not None:
        from sharpen.figures.theory.sequences import plot_knife_edge

        top = max([TOP_ALPHA, alpha, *more])
        count = 20 if not isinstance(model, IidModel) and model.n > MANY_STATES else 60
        plot_knife_edge(curve.sample(top, count), base, curve.critical_alpha, plot)
    slope = model.slope if isinstance(model, IidModel) else None
    if json_output:
        report = {
            "model": chosen.describe(model),
            **_point(point),
            "critical_alpha": curve.critical_alpha,
            "base_mean_length": base.mean,
            "slope": slope,
            "curve": [_point(row) for row in rows],
        }
        _print_json(report)
    else:
        _print_lengths(chosen.describe(model), [base, point, *rows], curve.critical_alpha, slope)


def _numbers(text: str) -> list[float]:
    from sharpen.objective import InputError

    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(0.0 <= number < math.inf for number in found):
        raise InputError("alphas", text, "finite numbers >= 0 separated by commas")
    return found


def _point(point: LengthPoint) -> dict[str, Any]:
    return {
        "alpha": point.alpha,
        "continuation_ratio": math.exp(point.log_continuation),
        "log_continuation_ratio": point.log_continuation,
        "normalisable": point.normalisable,
        "mean_length": point.mean,
        "std_length": point.std,
        "temperature_mean_length": point.temperature_mean,
    }


def _print_json(report: dict[str, Any]) -> None:
    import json

    say(json.dumps(_finite(report), allow_nan=False))


def _finite(given: Any) -> Any:
    """Return JSON types with null for every number that is not finite."""
    if isinstance(given, dict):
        return {name: _finite(part) for name, part in given.items()}
    if isinstance(given, list | tuple):
        return [_finite(part) for part in given]
    return None if isinstance(given, float) and not math.isfinite(given) else given


def _headline(model: dict[str, Any]) -> str:
    if model["kind"] == "iid":
        return f"{len(model['tokens'])} independent tokens, stop hazard {model['hazard']:.4g}"
    return f"{model['kind']} model, {model['states']:,} states, {model['transitions']:,} transitions"


def _print_lengths(
    model: dict[str, Any], points: list[LengthPoint], critical: float | None, slope: float | None
) -> None:
    console = terminal.plain_console()
    terminal.introduce(
        "How long the sequences of p^alpha are, in tokens before the stop, beside sampling at temperature 1/alpha. "
        "Where rho, the ratio in which longer sequences weigh more or less, reaches 1, there is no such distribution."
    )
    console.print(_headline(model))
    edge = "p^alpha exists for every alpha" if critical is None else f"p^alpha exists for alpha > {critical:.6f}"
    console.print(edge + ("" if slope is None else f"; d log rho / d alpha at 1 = {slope:.4f}"))
    table = terminal.number_table(["alpha", "rho", "mean length", "std", "at temperature 1/alpha"])
    for point in sorted({point.alpha: point for point in points}.values(), key=lambda point: point.alpha):
        lengths = [f"{point.mean:.4g}", f"{point.std:.4g}"] if point.normalisable else ["none", "none"]
        ratio = f"{math.exp(point.log_continuation):.6g}"
        table.add_row(f"{point.alpha:g}", ratio, *lengths, f"{point.temperature_mean:.4g}")
    console.print(table)


@options.flat
def sequences(
    chosen: SequenceFlags,
    alpha: Annotated[float, typer.Option(help="Exponent of p^alpha and of temperature 1/alpha, >= 0.")] = 2.0,
    weight: Annotated[float, typer.Option(help="Exponent w of the weighted score log p / |x|^w.")] = 0.5,
    count: Annotated[int, typer.Option(help="List so many of the likeliest sequences.")] = 3,
    longest: Annotated[int, typer.Option(help="Most tokens to search for the weighted score.")] = 1000,
    reward_states: Annotated[
        str | None, typer.Option(help="States s1,s2,...: the reward is the probability of stopping in one of them.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="Write the exact policy of p^alpha to PREFIX.npz and PREFIX-stop.npy.", metavar="PREFIX"),
    ] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Find what likelihood alone prefers, and how far p^alpha is from token-level temperature.

    Scores count the end-of-sequence token. Without a model's flags: five tokens, stop hazard 0.05.
    """
    from sharpen.theory import sequences as theory

    model = chosen.build()
    chain = model.markov() if isinstance(model, theory.IidModel) else model
    reward = None if reward_states is None else theory.Reward.ending_in(_states(reward_states), chain.n)
    found = {
        "likeliest": theory.likeliest(chain, count),
        "mean": theory.mean_mode(chain),
        "weighted": theory.weighted_mode(chain, weight, longest),
    }
    difference = theory.gap(chain, alpha, reward)
    report = {
        "model": chosen.describe(model),
        "likeliest": [_sequence(chosen, chain, each) for each in found["likeliest"]],
        "mean": _mean(chosen, chain, found["mean"]),
        "weighted": {
            "weight": weight,
            **_sequence(chosen, chain, found["weighted"].sequence),
            "score": found["weighted"].score,
            "bound": found["weighted"].bound,
            "optimal": found["weighted"].optimal,
            "longest": found["weighted"].longest,
        },
        "policies": {**asdict(difference), "reward_gap": difference.reward_gap},
    }
    if policy is not None:
        theory.to_files(theory.power(chain, alpha).policy, policy)
    if json_output:
        _print_json(report)
    else:
        _print_modes(report)
        _print_gap(difference)


def _states(text: str) -> list[int]:
    from sharpen.objective import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError("reward-states", text, "whole numbers separated by commas") from error


def _sequence(chosen: SequenceFlags, model: MarkovModel, found: ScoredSequence) -> dict[str, Any]:
    return {
        "states": list(found.states),
        "tokens": [chosen.token(model, state) for state in found.states],
        "log_prob": found.log_prob,
        "length": found.length,
    }


def _mean(chosen: SequenceFlags, model: MarkovModel, found: Any) -> dict[str, Any]:
    return {
        "supremum": found.supremum,
        "attained": found.attained,
        "sequence": None if found.sequence is None else _sequence(chosen, model, found.sequence),
        "cycle": list(found.cycle),
        "cycle_tokens": [chosen.token(model, state) for state in found.cycle],
        "cycle_mean": found.cycle_mean,
        "cycle_bound": found.cycle_bound,
    }


def _print_modes(report: dict[str, Any]) -> None:
    console = terminal.plain_console()
    terminal.introduce(
        "The sequences that likelihood alone prefers, and how far p^alpha is from sampling each token at temperature "
        "1/alpha. score: log p(x)/|x|^w in nats, |x|: tokens with the stop; w = 0 is sharpening by sum, w = 1 by mean."
    )
    console.print(_headline(report["model"]))
    table = terminal.number_table(["likelihood prefers", "score", "|x|", "sequence"])
    table.columns[3].justify = "left"
    for number, each in enumerate(report["likeliest"]):
        table.add_row(
            "w = 0" if number == 0 else "", f"{each['log_prob']:.4f}", str(each["length"]), _text(each["tokens"])
        )
    mean, weighted = report["mean"], report["weighted"]
    if mean["attained"]:
        best = mean["sequence"]
        table.add_row("w = 1", f"{mean['supremum']:.4f}", str(best["length"]), _text(best["tokens"]))
    else:
        table.add_row(
            "w = 1, not attained", f"{mean['supremum']:.4f}", "inf", f"{_text(mean['cycle_tokens'])} for ever"
        )
    name = f"w = {weighted['weight']:g}" + ("" if weighted["optimal"] else f", |x| <= {weighted['longest']}")
    table.add_row(name, f"{weighted['score']:.4f}", str(weighted["length"]), _text(weighted["tokens"]))
    console.print(table)


def _text(tokens: list[str]) -> str:
    text = " ".join(repr(token) if token.isspace() else token for token in tokens) or "(empty)"
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 3] + "..."


def _print_gap(found: Gap) -> None:
    console = terminal.plain_console()
    rewarded = found.base.expected_reward is not None
    table = terminal.number_table(
        ["policy", "mean length", "std", "entropy", "E[log p]", *(["E[r]"] if rewarded else [])]
    )
    policies = {
        "base": found.base,
        f"p^{found.alpha:g}": found.power,
        f"temperature 1/{found.alpha:g}": found.temperature,
    }
    for name, each in policies.items():
        if each is None:
            table.add_row(name, "may never stop")
            continue
        numbers = [each.mean_length, each.std_length, each.entropy, each.log_prob]
        table.add_row(name, *(f"{x:.4g}" for x in numbers), *([f"{each.expected_reward:.4f}"] if rewarded else []))
    console.print(table)
    there, back = found.kl_power_temperature, found.kl_temperature_power
    console.print(f"KL(p^alpha || temperature) = {there:.4g} nats, reverse {back:.4g} nats")

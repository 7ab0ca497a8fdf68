"""``sharpen theory coverage``: pass@k and maj@k of the base and of sharpened policies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say
from sharpen.cli.shared.words import weights
from sharpen.cli.theory import known

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.optima.coverage import Coverage, Prompt

KS = "1,4,16,64,256,1024"
POLICIES, MIX = "Policies", "Prompts"


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("coverage")(options.flat(coverage))


def coverage(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    answers: Annotated[
        str | None,
        typer.Option(
            help="Answer of each outcome, whole numbers, -1 for none. Default: every outcome its own.",
            rich_help_panel=MIX,
            show_default=False,
        ),
    ] = None,
    mix: Annotated[Path | None, typer.Option(help="JSON file of several prompts.", rich_help_panel=MIX)] = None,
    problems: known.Problems = None,
    one: known.OneProblem = None,
    k: Annotated[str, typer.Option(help="Numbers of samples, a comma list.")] = KS,
    k_max: Annotated[int, typer.Option(help="Largest k to look for the base overtaking at.")] = 10**6,
    majority: Annotated[bool, typer.Option(help="Whether to compute maj@k, which costs more.")] = True,
    best_of: Annotated[
        float | None, typer.Option(help="Also the likeliest of N samples, N >= 1.", rich_help_panel=POLICIES)
    ] = None,
    marginal: Annotated[
        bool,
        typer.Option(
            "--marginal", help="Also the optimum that sharpens answers, not sequences.", rich_help_panel=POLICIES
        ),
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw both curves to a .png, .pdf or .svg file.")] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Compute pass@k and maj@k of the optimum and the base, exactly, and the k at which the base overtakes.

    Without flags: the tempered objective (alpha 2) on five outcomes whose likeliest one is wrong.
    """
    spec = chosen.build(default="tempered")

    from sharpen.theory.optima.mix import compare_coverage

    known.instead_of(problems, one, outcomes, answers=answers, mix=mix, best_of=best_of, plot=plot)
    if problems is not None:
        options.only_where(False, "one problem, without --problems", marginal=marginal or None)
        found = known.chosen_of(problems, one)
        known.report_coverage(spec, found, _whole_numbers(k, "k"), k_max, json_output)
        return

    prompts = _prompts(outcomes, answers, mix, spec.length_exponent != 0.0)
    counts = _whole_numbers(k, "k")
    found = compare_coverage(spec, prompts, counts, majority=majority, best_of=best_of, marginal=marginal, k_max=k_max)
    table, overtakes = found.policies, found.crossover
    if plot is not None:
        from sharpen.figures.theory.coverage import plot_coverage

        plot_coverage(spec, table, overtakes, plot)
    if json_output:
        import json

        say(json.dumps(_as_json(spec, prompts, table, overtakes, k_max, marginal), allow_nan=False))
    else:
        _print_table(spec, prompts, table, overtakes, k_max)


def _prompts(outcomes: options.ProblemFlags, answers: str | None, mix: Path | None, reads_length: bool) -> list[Prompt]:
    from sharpen.objective import InputError
    from sharpen.theory.optima.coverage import Prompt, read_mix

    if mix is None:
        labels = None if answers is None else _whole_numbers(answers, "answers")
        return [Prompt(outcomes.build(reads_length), labels)]
    given = {"base": outcomes.base, "reward": outcomes.reward, "length": outcomes.length, "answers": answers}
    for name, text in given.items():
        if text is not None:
            raise InputError(name, text, "either --mix or the flags of one prompt, not both")
    return read_mix(mix)


def _whole_numbers(text: str, name: str) -> list[int]:
    from sharpen.objective import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(name, text, "a comma list of whole numbers") from error


def _as_json(
    spec: Objective,
    prompts: list[Prompt],
    table: dict[str, Coverage],
    overtakes: dict[str, int | None],
    k_max: int,
    marginal: bool,
) -> dict[str, Any]:
    from sharpen.theory.optima.coverage import mix_weights
    from sharpen.theory.optima.marginal import mode_conflict

    def one(prompt: Prompt, weight: float) -> dict[str, Any]:
        problem = prompt.problem
        fields: dict[str, Any] = {
            "base": problem.base.tolist(),
            "reward": problem.reward.tolist(),
            "length": problem.length.tolist(),
            "answers": prompt.labels.tolist(),
            "weight": weight,
        }
        return {**fields, "mode_conflict": mode_conflict(problem, prompt.labels).conflict} if marginal else fields

    return {
        "objective": spec.to_dict(),
        "regime": spec.regime,
        "prompts": [one(*pair) for pair in zip(prompts, mix_weights(prompts).tolist(), strict=True)],
        "k": table["base"].k.tolist(),
        "policies": {
            name: {
                "pass_at_k": found.pass_at_k.tolist(),
                "maj_at_k": None if found.maj_at_k is None else found.maj_at_k.tolist(),
                "success": found.success.tolist(),
            }
            for name, found in table.items()
        },
        "crossover": overtakes,
        "k_max": k_max,
    }


def _print_table(
    spec: Objective, prompts: list[Prompt], table: dict[str, Coverage], overtakes: dict[str, int | None], k_max: int
) -> None:

    terminal.introduce(
        "How often k samples hold a right answer (pass@k), and how often the most frequent of k answers is right "
        "(maj@k), for the base model and for the objective's optimum."
    )
    console = terminal.plain_console()
    console.print(f"{weights(spec)}; {len(prompts)} prompt{'s' if len(prompts) > 1 else ''}")
    rows = terminal.plain_table()
    rows.add_column("k", justify="right", no_wrap=True)
    columns = []
    for name, found in table.items():
        for kind, values in (("pass@k", found.pass_at_k), ("maj@k", found.maj_at_k)):
            if values is not None:
                # The name stands once, over pass@k, so that four policies fit into 80 columns.
                rows.add_column(f"{name if kind == 'pass@k' else ''}\n{kind}", justify="right", no_wrap=True)
                columns.append(values.tolist())
    for k, *row in zip(table["base"].k.tolist(), *columns, strict=True):
        rows.add_row(str(k), *[f"{value:.4f}" for value in row])
    console.print(rows)
    for name, k in overtakes.items():
        place = f"first at k = {k:,}" if k is not None else f"at no k up to {k_max:,}"
        console.print(f"base pass@k above {name}: {place}")

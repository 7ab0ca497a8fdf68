"""``sharpen llm pretrain``: make a model of the embedded model's kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.shared import options
from sharpen.cli.shared.terminal import say


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("pretrain")(pretrain)


@options.flat
def pretrain(
    out: Annotated[Path, typer.Option(help="Folder of the model; the same command continues.")],
    steps: Annotated[int, typer.Option(help="Updates.", min=1)] = 1500,
    batch: Annotated[int, typer.Option(help="Problems an update.", min=1)] = 192,
    learning_rate: Annotated[float, typer.Option(help="Peak of the cosine schedule.")] = 3e-3,
    hidden: Annotated[int, typer.Option(help="Width, a multiple of 32.", min=32)] = 128,
    layers: Annotated[int, typer.Option(help="Depth.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Of weights and data.", min=0, max=2**31 - 1)] = 0,
    json_output: options.JsonOutput = False,
) -> None:
    """Pre-train the embedded model: sums of three numbers, with several ways to answer.

    The defaults make the model that sharpen comes with, in about ten minutes on two cores.
    """
    require_packages()
    from sharpen.llm.tasks.embedded import Mixture
    from sharpen.llm.tiny.pretrain import Settings
    from sharpen.llm.tiny.pretrain import pretrain as make
    from sharpen.objective import InputError

    if hidden % 32:
        raise InputError("hidden", hidden, "a multiple of 32, the width of a head")
    if not 0 < learning_rate < 1:
        raise InputError("learning_rate", learning_rate, "a number in (0, 1)")
    settings = Settings(hidden, layers, steps, batch, learning_rate=learning_rate, seed=seed)
    found = make(settings, Mixture(), out)
    measures = found["measures"]
    if json_output:
        say(json.dumps(found))
        return
    low, high = measures["pass@1_interval"]
    say(f"pass@1 {measures['pass@1']:.3f} [{low:.3f}, {high:.3f}] on {measures['problems']} test problems")
    say(f"model: {out}  (sharpen llm train --model {out} --data embedded --template plain)")

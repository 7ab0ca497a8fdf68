"""``sharpen llm pretrain``: make a model of the embedded model's kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.shared import options
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.llm.tiny.pretrain import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("pretrain")(pretrain)


@options.flat
def pretrain(
    out: Annotated[Path, typer.Option(help="Folder of the model; the same command continues.")],
    dial: Annotated[str | None, typer.Option(help="A model of the dial (dial+1, …), or all: each in OUT/NAME.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates [default: 1500; dial 3000].", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="Problems per update [default: 192; dial 128].", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the cosine schedule [default: 0.003].")] = None,
    hidden: Annotated[int | None, typer.Option(help="Width, a multiple of 32 [default: 128; dial 64].", min=32)] = None,
    layers: Annotated[int | None, typer.Option(help="Depth [default: 3; dial 2].", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.", min=0, max=2**31 - 1)] = 0,
    json_output: options.JsonOutput = False,
) -> None:
    """Pre-train the embedded model: sums of three numbers, with several ways to answer.

    The defaults make the model that sharpen comes with, in about ten minutes on two cores. --dial makes models that
    come with it too, whose likelihood goes with correctness as their law says (docs/dial.md), some minutes each.
    """
    require_packages()
    from dataclasses import replace

    from sharpen.llm.tasks.embedded import Mixture
    from sharpen.llm.tiny.dial import SETTINGS
    from sharpen.llm.tiny.pretrain import Settings
    from sharpen.llm.tiny.pretrain import pretrain as make
    from sharpen.objective import InputError

    if hidden is not None and hidden % 32:
        raise InputError("hidden", hidden, "a multiple of 32, the width of a head")
    if learning_rate is not None and not 0 < learning_rate < 1:
        raise InputError("learning_rate", learning_rate, "a number in (0, 1)")
    given = {"hidden": hidden, "layers": layers, "steps": steps, "batch": batch, "learning_rate": learning_rate}
    changed: dict[str, Any] = {name: number for name, number in given.items() if number is not None}
    settings = replace(Settings() if dial is None else SETTINGS, **changed, seed=seed)
    if dial is not None:
        _make_dial(dial, out, settings, json_output)
        return
    found = make(settings, Mixture(), out)
    measures = found["measures"]
    if json_output:
        say(json.dumps(found))
        return
    low, high = measures["pass@1_interval"]
    say(f"pass@1 {measures['pass@1']:.3f} [{low:.3f}, {high:.3f}] on {measures['problems']} test problems")
    say(f"model: {out}  (sharpen llm train --model {out} --data embedded --template plain)")


def _make_dial(name: str, out: Path, settings: Settings, json_output: bool) -> None:
    from sharpen.llm.tasks.dial.law import MEMBERS
    from sharpen.llm.tiny.dial import make
    from sharpen.objective import InputError

    if name != "all" and name not in MEMBERS:
        raise InputError("dial", name, f"all, {', '.join(MEMBERS)}")
    found = make(MEMBERS if name == "all" else {name: MEMBERS[name]}, out, settings)
    if json_output:
        say(json.dumps(found))
        return
    for each, told in found.items():
        rate, gauge = f"pass@1 {told['pass@1']:.3f}", f"Corr(r, log p) {told['correlation']:+.3f}"
        say(f"{each}: {rate}, {gauge} on {told['problems']} test problems")
        say(f"model: {out / each}  (sharpen llm train --model {out / each} --data dial --template plain)")

"""``sharpen llm export``: a checkpoint as a folder that transformers and vLLM load."""

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
    app.command("export")(export)


@options.flat
def export(
    model: Annotated[
        str, typer.Option(help="A run folder, one of its checkpoints, a LoRA adapter of peft's, or any other model.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for weights, config and tokenizer.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="Of a run folder: last (the default), best, base, or a number of updates.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base model of an adapter; its own is the default.")] = None,
    dtype: Annotated[str, typer.Option(help="auto (as stored), float32, bfloat16 or float16.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in --out.")] = False,
    json_output: options.JsonOutput = False,
) -> None:
    """Write a model to a folder that AutoModelForCausalLM.from_pretrained and vLLM load; LoRA adapters are merged.

    The weights are safetensors, and they are read back and compared before the folder gets its name.
    """
    require_packages()
    from transformers.utils import logging

    from sharpen.llm.training.export import export as write

    logging.disable_progress_bar()
    told = write(model, out, which=checkpoint, base=base, dtype=dtype, force=force)
    if json_output:
        say(json.dumps(told))
    else:
        say(f"{told['location']}, {told['parameters']:,} parameters in {told['dtype']}: {out}")

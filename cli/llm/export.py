"""``sharpen llm export``: a checkpoint as a folder that transformers and vLLM load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

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
        str | None,
        typer.Option(help="Which checkpoint of a run folder: last (the default), best, base, or a number of updates."),
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base model of an adapter; its own is the default.")] = None,
    dtype: Annotated[str, typer.Option(help="auto (as stored), float32, bfloat16 or float16.")] = "auto",
    push: Annotated[
        str | None,
        typer.Option(
            help="Say what an upload to this repository of the hub would send; sends nothing.", metavar="OWNER/NAME"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in --out.")] = False,
    json_output: options.JsonOutput = False,
) -> None:
    """Write a model to a folder that AutoModelForCausalLM.from_pretrained and vLLM load; LoRA adapters are merged.

    The weights are safetensors, and they are read back and compared before the folder gets its name. A model card,
    README.md, says what they are: base, objective, data, evaluation, how far it sharpened.
    """
    require_packages()
    if push is not None:
        _check_repository(push)
    from transformers.utils import logging

    from sharpen.llm.export.folder import export as write

    logging.disable_progress_bar()
    told = write(model, out, which=checkpoint, base=base, dtype=dtype, force=force)
    upload = None if push is None else _upload(push, out)
    if json_output:
        say(json.dumps(told | ({} if upload is None else {"upload": upload})))
        return
    say(f"{told['location']}, {told['parameters']:,} parameters in {told['dtype']}: {out}")
    if upload is not None:
        say(
            f"an upload to {push} would send {len(upload['files'])} files, {upload['bytes']:,} bytes; nothing was sent:"
        )
        for name, size in upload["files"].items():
            say(f"{size:>15,}  {name}")
        say(f"to send them: {upload['command']}")


def _check_repository(name: str) -> None:
    """Refuse before the work what is no name of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    from sharpen.objective import InputError

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError("push", name, "OWNER/NAME, of letters, digits, -, _ and .") from error
    if name.count("/") != 1:
        raise InputError("push", name, "OWNER/NAME, of letters, digits, -, _ and .")


def _upload(name: str, out: Path) -> dict[str, Any]:
    """Return what an upload of the export would send, and the command that does it."""
    import shlex

    sent = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    command = shlex.join(["hf", "upload", name, str(out), "--repo-type", "model"])
    return {"repository": name, "files": sent, "bytes": sum(sent.values()), "command": command}

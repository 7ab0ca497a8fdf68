"""``sharpen llm``: the objective on a real language model."""

from __future__ import annotations

from importlib.util import find_spec

import typer

from sharpen.cli import llm_data, llm_eval, llm_export, llm_pretrain, llm_sample, llm_train
from sharpen.cli.errors import fail

app = typer.Typer(no_args_is_help=True, help="Train a language model on the objective and evaluate it.")
PACKAGES = ("torch", "transformers", "datasets", "safetensors", "math_verify")  # of the extra llm


@app.callback()
def group() -> None:
    """Train a language model on the objective and evaluate it."""


def require_packages() -> None:
    """End with one line if the extra ``llm`` is not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        fail(f"sharpen llm: {', '.join(missing)} not installed, needed: pip install 'sharpen-rl[llm]'")


llm_train.register(app)
llm_eval.register(app)
llm_sample.register(app)
llm_data.register(app)
llm_pretrain.register(app)
llm_export.register(app)

"""``sharpen llm``: the objective on a real language model."""

from __future__ import annotations

import typer

from sharpen.cli.llm import data as llm_data
from sharpen.cli.llm import eval as llm_eval
from sharpen.cli.llm import export as llm_export
from sharpen.cli.llm import models as llm_models
from sharpen.cli.llm import new_task as llm_new_task
from sharpen.cli.llm import pretrain as llm_pretrain
from sharpen.cli.llm import sample as llm_sample
from sharpen.cli.llm import tasks as llm_tasks
from sharpen.cli.llm import train as llm_train

app = typer.Typer(no_args_is_help=True, help="Language models: forecast, train, audit, evaluate, sample, export.")


@app.callback()
def group() -> None:
    """Language models: forecast, train, audit, evaluate, sample, export."""


llm_train.register(app)
llm_eval.register(app)
llm_sample.register(app)
llm_data.register(app)
llm_tasks.register(app)
llm_models.register(app)
llm_new_task.register(app)
llm_pretrain.register(app)
llm_export.register(app)

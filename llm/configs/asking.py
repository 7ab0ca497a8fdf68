"""Settings of how problems are asked that training, evaluation and sampling share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

ChatOptions = Annotated[dict[str, Any], Field(description="Arguments of the model's chat format, by name.")]
LongPrompts = Annotated[
    Literal["drop", "refuse"],
    Field(description="Prompts that leave no room for a response: leave them out and say so, or refuse."),
]

"""Problems and answers, where they come from, and how a prompt is made of them."""

from typing import TYPE_CHECKING

from sharpen.objective import lazy

if TYPE_CHECKING:
    from sharpen.llm.tasks.data import AnswerKey, DataSource, Prompt, PromptSet
    from sharpen.llm.tasks.listed import problems
    from sharpen.llm.tasks.registry import TASKS, Task
    from sharpen.llm.tasks.sources import load_source
    from sharpen.llm.tasks.templates import TEMPLATES, Template

__getattr__, __dir__, _ = lazy.exports(
    __name__,
    {
        "TEMPLATES": "sharpen.llm.tasks.templates:TEMPLATES",
        "Template": "sharpen.llm.tasks.templates:Template",
        "TASKS": "sharpen.llm.tasks.registry:TASKS",
        "AnswerKey": "sharpen.llm.tasks.data:AnswerKey",
        "DataSource": "sharpen.llm.tasks.data:DataSource",
        "Prompt": "sharpen.llm.tasks.data:Prompt",
        "PromptSet": "sharpen.llm.tasks.data:PromptSet",
        "Task": "sharpen.llm.tasks.registry:Task",
        "load_source": "sharpen.llm.tasks.sources:load_source",
        "problems": "sharpen.llm.tasks.listed:problems",
    },
)
__all__ = [  # the same names, where a type checker reads them
    "TASKS",
    "TEMPLATES",
    "AnswerKey",
    "DataSource",
    "Prompt",
    "PromptSet",
    "Task",
    "Template",
    "load_source",
    "problems",
]

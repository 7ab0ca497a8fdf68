"""HTML pages from templates in which every value is escaped unless the code that made it says that it is HTML."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


def render_page(package: str, template: str, **values: Any) -> str:
    """Return the page that a template of a package makes of some values.

    A ``<``, ``&`` or quote in a text is shown as it is; ``markupsafe.Markup`` marks what is HTML already.

    Args:
        package: Dotted name of the package whose folder ``templates`` has the file.
        template: Name of the file.
        values: What the template calls by name.

    Raises:
        jinja2.UndefinedError: the template wants a value that is not given.
    """
    return _template(package, template).render(**values)


@lru_cache(maxsize=8)
def _template(package: str, name: str) -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = (files(package) / "templates" / name).read_text(encoding="utf-8")
    return environment.from_string(text)

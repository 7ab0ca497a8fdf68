"""How the docstrings of the code read on the site: doctests as code, roles as code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Docstrings(Extension):
    """Griffe takes sections named as Google names them, and knows no roles."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Change a docstring before it is parsed."""
        if obj.docstring is not None:
            text = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r":(?:func|class|meth|mod|data):`~?([^`]+)`", r"`\1`", text)

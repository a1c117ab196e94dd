"""Extension of griffe, which reads the docstrings for the page of the Python API."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Show the section `Example` as code, as griffe shows `Examples`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the heading of the section."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

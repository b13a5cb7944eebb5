"""A griffe extension: examples in docstrings become blocks of code, wherever they stand."""

import re

import griffe

_EXAMPLE = re.compile(r"(?m)^>>> .*(?:\n(?!\s*$).+)*")


class Examples(griffe.Extension):
    """Fences each run of lines that begins with `>>>`; else Markdown reads it as a quotation."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring and ">>>" in obj.docstring.value:
            obj.docstring.value = _EXAMPLE.sub(lambda m: f"```pycon\n{m.group()}\n```", obj.docstring.value)

"""Imported first by a program, it makes a machine without TensorFlow and LiteRT."""

import sys

MISSING = ("tensorflow", "ai_edge_litert")


class Missing:
    """Finds no module of the missing packages, wherever else they may be."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing)


def imported() -> list[str]:
    """What of the missing packages was imported after all."""
    return [name for name in sys.modules if name.partition(".")[0] in MISSING]

"""The command line. Nothing heavy is imported before the arguments are known to be good."""

from light_sernet_kd.cli.entry import console, main, make_parser

__all__ = ["console", "main", "make_parser"]

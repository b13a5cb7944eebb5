"""The command line. Nothing heavy is imported before the arguments are known to be good."""

from light_sernet_kd.cli.entry import main, make_parser

__all__ = ["main", "make_parser"]

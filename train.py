"""Distil, cross-validate, report and export a student: `python train.py --help`."""

import sys

import hyperparameters
from light_sernet_kd.cli import main

if __name__ == "__main__":
    sys.exit(
        main(program="train.py", defaults=hyperparameters.DEFAULTS, experiments=hyperparameters.EXPERIMENTS)
    )

"""`python -m light_sernet_kd` is `light-sernet-kd`."""

import sys

from light_sernet_kd.cli import console

if __name__ == "__main__":
    sys.exit(console())

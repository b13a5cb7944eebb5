"""What processes do in a test, without TensorFlow, which each would import anew."""

import os
import signal

from light_sernet_kd.config import RunOptions, Settings


def says_its_settings(settings: Settings, options: RunOptions) -> str:
    return f"{settings.seed} {options.run} {options.verbose} {os.environ['OMP_NUM_THREADS']}"


def is_killed_once(settings: Settings, options: RunOptions) -> str:
    mark = options.result / f"{options.run}.begun"
    if settings.seed == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return str(settings.seed)


def is_always_killed(settings: Settings, options: RunOptions) -> str:
    if settings.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return str(settings.seed)

"""Light-SERNet KD: distil large speech-emotion teachers into students that run on a phone.

Importing this package imports nothing heavy; the modules that need TensorFlow import it themselves.
"""

__version__ = "0.1.0"

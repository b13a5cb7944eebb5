"""One network on one fold: its training, checkpoints, arithmetic and int8 twin."""

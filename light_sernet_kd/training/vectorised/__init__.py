"""Many networks of one architecture trained at once, on JAX.

One Light-SERNet leaves a GPU idle: its steps are short and its batches small. Here M networks (folds, seeds,
methods) are one program. What each of them does is what it does alone, see `program`.
"""

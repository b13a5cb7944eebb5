"""Many runs by one command: a grid, a search, the papers' tables."""

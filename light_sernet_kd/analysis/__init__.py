"""Analyses of corpora, runs and exported files: audit, compare, benchmark, stress, explain."""

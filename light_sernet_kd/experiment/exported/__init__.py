"""Exported files of a run: the final student, conversion, second heads, files made later."""

"""Everything that has a name on the command line: one dictionary per kind, each in a file of its own.

An entry says what the rest of the package must know of a thing, and names the code that makes it as a `Lazy`,
which imports it when it is first called. So the settings, `--help`, the error messages, the documents and the
tests read one dictionary, and none of them imports TensorFlow for it. Standard library only.

To add a student, a loss, a front end, … write its function, and one line here.
"""

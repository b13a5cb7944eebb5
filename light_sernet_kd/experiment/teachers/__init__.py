"""The teachers of a run: outside ones, its own networks, finished runs, earlier generations of students."""

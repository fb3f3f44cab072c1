"""The verbs: each takes a recipe or a file, does its stages, and returns a typed result."""

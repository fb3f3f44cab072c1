"""The recipe: everything that decides a run, its file, and what its values may be."""

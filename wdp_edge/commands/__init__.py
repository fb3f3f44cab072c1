"""The commands besides `prune`: each takes a recipe, a run or a file, and returns a typed result."""

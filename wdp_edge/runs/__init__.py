"""A run folder: what is in it, what its stages hand on, what its commands return."""

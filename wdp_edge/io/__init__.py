"""Files and texts: written whole, read with types, kept apart from what native code prints."""

"""Core ML on a Mac, an iPhone or an iPad."""

"""The main verb and its stages."""

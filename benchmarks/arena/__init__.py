"""Pruning methods side by side: the same checkpoint, images, recovery, adapter, precision and clock for all."""

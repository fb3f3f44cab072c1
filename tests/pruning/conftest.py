"""Whole runs of tiny models share a core."""

from one_core import one_export_at_a_time

__all__ = ["one_export_at_a_time"]

"""Faults on purpose: killed runs, full disks, two commands at once, and mutated input."""

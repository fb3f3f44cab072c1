"""From scores, latency table and budget to the structure that is cut."""

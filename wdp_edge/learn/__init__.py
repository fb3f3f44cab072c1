"""Learning: which widths to keep (masks, thresholds, exits, budget term), and fine-tuning after the cut."""

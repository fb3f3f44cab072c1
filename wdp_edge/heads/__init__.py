"""A linear head for a backbone that has none, fitted to labelled images."""

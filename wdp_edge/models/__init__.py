"""Vision Transformers we know: make, load, describe, cut and save them."""

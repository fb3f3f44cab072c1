"""What is recorded about an exported file, and how it is proven: sidecar, metadata, comparison with the model."""

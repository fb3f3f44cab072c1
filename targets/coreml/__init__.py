"""Core ML: .mlpackage folders with an ML program."""

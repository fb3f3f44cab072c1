"""ExecuTorch with the Core ML delegate: .pte files for Apple's devices."""

"""ExecuTorch with the XNNPACK delegate: .pte files."""

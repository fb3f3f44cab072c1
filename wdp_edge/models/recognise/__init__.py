"""Which timm model a checkpoint is of, told from its keys, its shapes and what stands beside it."""

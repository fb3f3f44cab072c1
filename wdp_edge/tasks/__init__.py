"""Tasks: one file each, found through `wdp_edge.protocols.task`."""

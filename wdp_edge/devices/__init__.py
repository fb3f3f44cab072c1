"""Where artifacts run and are timed. A kind of device is an entry point of the group `wdp_edge.devices`."""

"""What a target, a device and a task are, and how they are found."""

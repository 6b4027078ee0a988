"""A training as it lies on the disk, and what it needs to be built again: settings, network, precision, checkpoints."""

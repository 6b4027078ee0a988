"""Augmented patches on the device: which ones, how they are moved, and that they are there in time."""

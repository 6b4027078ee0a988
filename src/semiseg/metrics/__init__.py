"""Metrics of a pair of masks, one class in one file each, and statistics of samples; it knows of no run or file."""

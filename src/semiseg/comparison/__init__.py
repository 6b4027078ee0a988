"""Do the unlabelled scans help? A grid of trainings, its statistics and its tables."""

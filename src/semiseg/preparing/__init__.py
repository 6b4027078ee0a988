"""From a dataset folder to the prepared store: checked, measured, planned, cropped, resampled and normalised."""

"""Medical image segmentation from a few labelled scans and many unlabelled ones."""

"""Methods of semi-supervised segmentation, one file per paper."""

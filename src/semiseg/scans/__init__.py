"""One scan: the formats it comes in, its geometry, its foreground, and the way to other grids and back."""

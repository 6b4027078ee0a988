"""A folder of scans: what it says of itself, its cases, and which are labelled, unlabelled or kept for scores."""

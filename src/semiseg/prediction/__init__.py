"""A trained run labels scans: sliding windows, written in the scan's own geometry."""

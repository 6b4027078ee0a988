"""Generated patients: scans and labels of which everything is known, for the demo and the tests."""

"""Speed: how it is measured, what bounds it on a machine, and `semiseg bench`."""

"""What can be chosen for a run, from presets, files and the command line, with every mistake told at once."""

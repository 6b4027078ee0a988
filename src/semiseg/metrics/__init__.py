"""Dice, surface distances and what is computed of their samples; nothing here knows of runs or files."""

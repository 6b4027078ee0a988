"""The methods as one would write them first: eager, float32, contiguous, one call per pass, `.item()` at every step.

Written from the papers and their official training loops, with PyTorch alone; nothing of semiseg is used. Parameters
are registered in the order of semiseg's networks, so that weights can be carried over and the losses compared.
"""

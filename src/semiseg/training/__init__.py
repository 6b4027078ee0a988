"""The loop: steps, optimisers, stages, checkpoints, what is measured and what is told while it runs."""

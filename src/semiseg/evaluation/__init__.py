"""How good predictions are: scores per case and class, over runs, and how features of classes match."""

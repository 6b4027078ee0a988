"""What the papers of the main methods print: their figures, and the rows of their tables as settings.

One CSV file per paper holds the figures, one YAML file what each row of its ablations sets.
"""

from semiseg.papers.commands import replay
from semiseg.papers.datasets import DATASETS, dataset_of
from semiseg.papers.figures import Figure, figures
from semiseg.papers.quotes import ELSEWHERE, Quote, quotes
from semiseg.papers.tables import Paper, Result, Row, Setup, Table, paper_of, papers

__all__ = [
    "DATASETS",
    "ELSEWHERE",
    "Figure",
    "Paper",
    "Quote",
    "Result",
    "Row",
    "Setup",
    "Table",
    "dataset_of",
    "figures",
    "paper_of",
    "papers",
    "quotes",
    "replay",
]

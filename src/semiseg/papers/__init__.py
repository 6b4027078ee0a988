"""What the papers of the main methods print: their figures, and the rows of their tables as settings.

One CSV file per paper holds the figures, one YAML file what each row of its ablations sets.
"""

from semiseg.papers.commands import replay
from semiseg.papers.comparisons import Comparison, comparison, comparisons, registered, tables_of
from semiseg.papers.datasets import DATASETS, dataset_of, preset_of
from semiseg.papers.figures import Figure, figures
from semiseg.papers.names import PRINTED, method_of, names_of
from semiseg.papers.quotes import Quote, quotes
from semiseg.papers.setups import Setup
from semiseg.papers.tables import Paper, Result, Row, Table, paper_of, papers

__all__ = [
    "DATASETS",
    "PRINTED",
    "Comparison",
    "Figure",
    "Paper",
    "Quote",
    "Result",
    "Row",
    "Setup",
    "Table",
    "comparison",
    "comparisons",
    "dataset_of",
    "figures",
    "method_of",
    "names_of",
    "paper_of",
    "papers",
    "preset_of",
    "quotes",
    "registered",
    "replay",
    "tables_of",
]

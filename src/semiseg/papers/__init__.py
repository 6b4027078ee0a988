"""What the papers of the main methods print: their figures, and the rows of their tables as settings.

One CSV file per paper holds the figures, one YAML file what each row of its ablations sets.
"""

from semiseg.papers.commands import replay
from semiseg.papers.figures import Figure, figures
from semiseg.papers.tables import Paper, Result, Row, Setup, Table, paper_of, papers

__all__ = ["Figure", "Paper", "Result", "Row", "Setup", "Table", "figures", "paper_of", "papers", "replay"]

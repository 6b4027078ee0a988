"""Every row of the papers' ablations for two training steps: speed, and which loss terms it has.

    python benchmarks/ablations.py [--output docs/ablations.md] [--steps 12]

Rows are trained with their `--set` arguments, on generated 2D scans and with a narrow network of the paper's kind. What
would hide a switch in the first two steps is set aside, see `TOY`. The terms are those of the first two steps; the
speed is that of the fastest step after them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.papers import Paper, Row, Setup, Table, papers
from semiseg.papers.tables import as_text
from semiseg.phantom.cohort import PhantomConfig, make_cohort
from semiseg.runs.folder import Run
from semiseg.settings.load import load_config
from semiseg.settings.presets import preset
from semiseg.settings.run import RunConfig
from semiseg.training.optim import guarded_step
from semiseg.training.session import Session, open_session

STEPS = 2
COHORT = PhantomConfig(shape=(64, 64), organs=1, labelled=4, unlabelled=4, test=0)
RUN = (
    "labelled=4",
    "batch.labelled=4",
    "batch.unlabelled=4",
    "batch.patch=[32, 32]",
    "batch.foreground=1",
    "optimiser.name=sgd",
    "optimiser.nesterov=false",
    "optimiser.clip=null",
    "network.options.dropout=0",
    "precision=fp32",
    "accelerator=cpu",
)
WIDTHS = {"vnet": "network.options.filters=4", "unet2d": "network.options.filters=[4, 8, 16, 32, 64]"}
TOY = {
    "cml": {"pretraining": 0, "ramp": "none"},
    "ducisc": {"warmup": 0, "ramp": "none", "horizon": None, "probability": 0.55},
    "lefed": {"encoder_dropout": 0, "decoder_dropout": 0},
    "micd": {"ramp": "none"},
}
"""Options by paper: no supervised start, no ramp, a probability that untrained networks have, and no dropout, whose
draws could be mistaken for a switch."""


@dataclass(frozen=True)
class Outcome:
    """What two steps of a row gave.

    Attributes:
        terms: loss terms with a weight above zero, in the order of the losses.
        totals: total of every loss that the method yielded.
        state: parameters and buffers of the method afterwards.
        speed: steps per second of the fastest step after these two; nan without such.
    """

    terms: tuple[str, ...]
    totals: tuple[float, ...]
    state: dict[str, Tensor]
    speed: float

    def equals(self, other: Outcome) -> bool:
        """Whether not one bit differs."""
        same = (self.terms, self.totals, self.state.keys()) == (other.terms, other.totals, other.state.keys())
        return same and all(torch.equal(value, other.state[name]) for name, value in self.state.items())


def main() -> None:
    """Run all rows, print the page, write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="also write the page here")
    parser.add_argument("--steps", type=int, default=STEPS + 10, help="steps per row, the first two included")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        text = page({paper.name: bench.outcomes(paper, arguments.steps) for paper in papers()})
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


class Bench:
    """A generated data set in `folder` and the rows that were run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = make_cohort(folder / "data", COHORT)

    def outcomes(self, paper: Paper, steps: int = STEPS) -> dict[tuple[str, str], Outcome]:
        """Outcome of every row by number of the table and name of the row; equal settings are run once."""
        done: dict[tuple[str, ...], Outcome] = {}
        found = {}
        for table, row in rows(paper):
            settings = assignments(row, table.setups[0], paper.name)
            key = (row.method, *settings)
            if key not in done:
                run = Run(self.folder / f"{paper.name}_{len(done)}")
                done[key] = train(self._config(row.method, settings, steps), run, steps)
            found[table.number, row.name] = done[key]
        return found

    def _config(self, method: str, settings: tuple[str, ...], steps: int) -> RunConfig:
        # Ten times the steps, so that no schedule comes to its end within them.
        return load_config(None, {"data": self.data, "method": method, "steps": 10 * steps}, (*RUN, *settings))


def rows(paper: Paper) -> Iterator[tuple[Table, Row]]:
    """All rows of a paper with their tables."""
    return ((table, row) for table in paper.tables for row in table.rows)


def assignments(row: Row, setup: Setup, paper: str) -> tuple[str, ...]:
    """Options of a row at toy size, as `--set` takes them."""
    toy = TOY[paper] if row.method.startswith(paper) else {}
    network = preset(setup.preset).settings(row.method, None, "honest")["network"]["name"]
    options = (f"options.{name}={as_text(value)}" for name, value in [*row.options.items(), *toy.items()])
    return (f"network.name={network}", WIDTHS[network], *options)


def train(config: RunConfig, run: Run, steps: int = STEPS) -> Outcome:
    """Train a row for `steps` steps and tell of the first two."""
    terms: dict[str, None] = {}
    totals: list[float] = []
    state: dict[str, Tensor] = {}
    seconds = []
    with open_session(config, run) as session:
        session.stepper.train()
        for step, batch in enumerate(session.batches.stream(0, steps)):
            start = time.perf_counter()
            for names, total in step_losses(session, step, batch):
                if step < STEPS:
                    terms |= dict.fromkeys(names)
                    totals.append(total)
            seconds.append(time.perf_counter() - start)
            if step == STEPS - 1:
                state = {name: value.clone() for name, value in session.method.state_dict().items()}
    timed = seconds[STEPS:]
    return Outcome(tuple(terms), tuple(totals), state, 1 / min(timed) if timed else float("nan"))


def step_losses(session: Session, step: int, batch: Batch) -> Iterator[tuple[tuple[str, ...], float]]:
    """One step as the engine makes it; for each loss the terms with a weight, and the total."""
    session.enter_stage(step)
    session.seed(step)
    for loss in session.method.step(batch, session.clock(step)):
        total = loss.total
        for optimiser in session.optimisers.values():
            optimiser.zero_grad()
        total.backward()
        guarded_step(session.optimisers[loss.group], total, session.config.optimiser.clip)
        yield tuple(name for name in loss.terms if float(loss.weights.get(name, 1.0)) > 0), total.item()


def page(found: dict[str, dict[tuple[str, str], Outcome]]) -> str:
    """The page `docs/ablations.md`."""
    lines = [INTRODUCTION]
    for paper in papers():
        lines += ["", f"## {paper.method}", "", f"{paper.citation}, {paper.source}."]
        for table in paper.tables:
            lines += ["", f"**{table.title}**: {table.varies}", "", "| row | steps/s | loss terms |", "|---|---|---|"]
            for row in table.rows:
                outcome = found[paper.name][table.number, row.name]
                lines.append(f"| {cell(row.name)} | {outcome.speed:.1f} | {', '.join(outcome.terms)} |")
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """`text` for a cell of a Markdown table."""
    return text.replace("|", r"\|")


INTRODUCTION = """# Ablations: do the switches switch?

Every row of the papers' ablations, trained for two steps: which loss terms have a weight above zero, and how fast it
is. Written by

```sh
python benchmarks/ablations.py --output docs/ablations.md
```

and a test trains every row again, compares the terms with this page, and checks that no two rows of a table with
different settings end with the same losses and weights. What each row sets is on the
[method's page](methods/index.md); `semiseg methods NAME --table NUMBER` prints the commands.

- Batches are 4 labelled and 4 unlabelled patches of 32 x 32 pixels of [generated scans](quickstart.md), two classes;
  the network is the paper's, a quarter as wide or less, in 2D; SGD, float32.
- What would hide a switch in two steps is set aside: `pretraining=0`, `ramp=none` (CML), `warmup=0`, `ramp=none`,
  `horizon=null`, which leaves momenta as they are, and `probability=0.55` instead of 0.95, which no untrained network
  reaches (DuCiSC), `ramp=none` (MICD). Dropout is off.
- Steps/s are those of the fastest of ten more steps on one CPU core that was not idle: they tell which rows cost more
  passes, not how fast a training is (see [Speed](speed.md)).
- Rows that differ in how something is done, not in what is added up, have the same terms. MICD's `mcpc` without MCPC
  is the cross supervision of DHC."""


if __name__ == "__main__":
    main()

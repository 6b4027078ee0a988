"""Choosing a checkpoint: mean foreground Dice on the cases that the protocol allows for it."""

from __future__ import annotations

import numpy as np
import torch

from semiseg.engine.precision import autocast
from semiseg.engine.session import Session
from semiseg.evaluation.metrics import dice
from semiseg.inference.windows import sliding_labels


def validate(session: Session) -> float:
    """Mean Dice over foreground classes and cases, on the stored grid with half-overlapping windows.

    The cases are the validation cases; under `protocol: paper`, the test cases. A class that is in neither the label
    nor the prediction of a case does not count. The first process works, the others get its answer.
    """
    fabric = session.fabric
    score = torch.zeros((), device=fabric.device)
    if fabric.is_global_zero:
        session.method.eval()
        score += _score(session)
        session.method.train()
    return float(fabric.broadcast(score.item()))


def _score(session: Session) -> float:
    paper = session.config.protocol == "paper"
    cases = session.split.test if paper else session.split.validation
    patch = session.batches.patch
    stride = tuple(max(side // 2, 1) for side in patch)
    found = []
    for case in cases:
        image = torch.from_numpy(np.array(session.store.image(case), dtype=np.float32)).to(session.fabric.device)
        with autocast(session.fabric.device, session.precision):
            predicted = sliding_labels(session.method.predict, image, patch, stride, batch=4).cpu().numpy()
        truth = session.store.label(case)
        found += [dice(predicted == index, truth == index) for index in range(1, session.plan.classes)]
    return float(np.nanmean(found))

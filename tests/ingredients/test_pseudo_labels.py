from __future__ import annotations

import torch

from semiseg.ingredients.pseudo_labels import hard_labels


def test_most_probable_class_and_the_first_of_equals():
    logits = torch.randint(4, (2, 5, 6, 7), generator=torch.Generator().manual_seed(0)).float().requires_grad_()
    labels = hard_labels(logits)
    rows = logits.detach().movedim(1, -1).reshape(-1, 5).tolist()
    assert labels.flatten().tolist() == [row.index(max(row)) for row in rows]
    assert not labels.requires_grad


def test_no_sample():
    assert hard_labels(torch.zeros(0, 3, 4, 4)).shape == (0, 4, 4)

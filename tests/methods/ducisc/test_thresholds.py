from __future__ import annotations

import pytest
import torch

from semiseg.ingredients.levels import Levels
from semiseg.methods.ducisc.thresholds import SelfAwareSelection, SelfAwareThresholds, ThresholdOptions


def probabilities(classes=3, shape=(4, 5), seed=0):
    return torch.randn(2, classes, *shape, generator=torch.Generator().manual_seed(seed)).softmax(1)


def test_thresholds_choose_by_the_class_of_the_label():
    found = SelfAwareThresholds(2, 1, 0.9, None)
    found.value.copy_(torch.tensor([[0.6], [0.8]]))
    p = torch.tensor([[0.7, 0.3], [0.3, 0.7], [0.1, 0.9], [0.6, 0.4]]).T.unsqueeze(0)
    labels = p.max(1).indices
    assert found.keep(0, p, labels).tolist() == [[True, False, True, False]]


def test_thresholds_ignore_what_is_not_finite():
    found = SelfAwareThresholds(3, 2, 0.5, (0.0, 1.0))
    found.follow(1, torch.tensor([0.9, torch.nan, 0.0]))
    torch.testing.assert_close(found.value[:, 1], torch.tensor([(1 / 3 + 0.9) / 2, 1 / 3, 1 / 3]))
    torch.testing.assert_close(found.value[:, 0], torch.full((3,), 1 / 3))


@pytest.mark.parametrize("per_level", [True, False])
def test_selection_keeps_thresholds_per_level_or_one(per_level):
    selector = SelfAwareSelection(ThresholdOptions(threshold_per_level=per_level), 3, 2, 0)
    levels = [probabilities(shape=(2, 3)), probabilities(seed=1)]
    labels = [p.max(1).indices for p in levels]
    selector.follow([p.log() for p in levels], labels)
    assert selector.thresholds.value.shape == (3, 2 if per_level else 1)
    last = SelfAwareThresholds(3, 1, 0.99, (1 / 3, 0.95))
    last.update(0, levels[-1].log(), labels[-1])
    torch.testing.assert_close(selector.thresholds.value[:, -1:], last.value)
    keep = selector.keep(lambda _: Levels([], []), torch.zeros(0), levels, 1.0)
    assert [m.shape for m in keep] == [y.shape for y in labels]


@pytest.mark.parametrize(("clamp", "value"), [(True, 0.95), (False, 1.0)])
def test_thresholds_have_a_cap_unless_as_printed(clamp, value):
    selection = SelfAwareSelection(ThresholdOptions(threshold_clamp=clamp, threshold_momentum=0), 2, 1, 0)
    sure = torch.tensor([[30.0, -30.0], [-30.0, 30.0]]).view(2, 2, 1)
    selection.follow([sure], [sure.max(1).indices])
    torch.testing.assert_close(selection.thresholds.value, torch.full((2, 1), value))
    if clamp:
        unsure = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).view(2, 2, 1)
        selection.follow([unsure], [sure.max(1).indices])
        torch.testing.assert_close(selection.thresholds.value, torch.full((2, 1), 0.5))

"""Options of FUSSNet, and what its self-training counts."""

from __future__ import annotations

import pytest
import torch

from methods.test_conformance import make_batch, optimisers, train
from semiseg.methods.base import Clock, Method, Task, entry
from semiseg.methods.pretraining import PretrainingOptions
from semiseg.networks import build_network
from semiseg.training.stages import spans


def make(**options: object) -> Method:
    torch.manual_seed(0)

    def build(**form: object) -> torch.nn.Module:
        return build_network("unet", channels=1, classes=3, spatial_dims=2, filters=(4, 8), **form)

    return entry("fussnet").build(options, Task(3, 1, 2, (60, 30, 10)), build).train()


def test_layers_of_random_logits_learn_only_when_they_shall() -> None:
    for option in (False, True):
        method = make(train_aleatoric=option)
        before = {key: value.clone() for key, value in method.aleatoric.state_dict().items()}
        train(method, make_batch(2, 3), 60, optimisers(method))
        changed = [not torch.equal(value, before[key]) for key, value in method.aleatoric.state_dict().items()]
        assert all(changed) if option else not any(changed)


def test_random_logits_matter_to_the_features() -> None:
    weights = []
    for weight in (0.0, 0.8):
        method = make(aleatoric_weight=weight)
        found = train(method, make_batch(2, 3), 60, optimisers(method))
        assert (found[0]["aleatoric"] == 0) == (weight == 0)
        weights.append(torch.nn.utils.parameters_to_vector(method.student.encoder.parameters()).detach())
    assert not torch.equal(*weights)


def labelled_anew(total: int, epochs: int, **options: object) -> list[int]:
    """Steps at which the student becomes the one that labels."""
    method, batch, found = make(pretraining=0.2, **options), make_batch(2, 3), []
    for step in range(total // 5, total):
        method.labeller.copy = lambda _, step=step: found.append(step)
        next(method.step(batch, Clock(step, total, step * epochs // total, epochs, "selftraining")))
    return found


def test_labels_are_taken_anew_after_a_share_of_self_training_or_some_epochs() -> None:
    assert labelled_anew(50, 10, refresh_share=0.25) == [10, 20, 30, 40]
    assert labelled_anew(50, 10, refresh_epochs=3) == [10, 25, 40]
    assert labelled_anew(10, 2, refresh_share=0.01) == [*range(2, 10)]


def test_ramp_counts_self_training() -> None:
    def weight(step: int, **options: object) -> float:
        method = make(pretraining=0.2, **options)
        loss = next(method.step(make_batch(2, 3), Clock(step, 100, step // 10, 10, "selftraining")))
        return float(loss.weights["uncertain"])

    assert weight(20) == pytest.approx(torch.exp(torch.tensor(-5.0)).item())
    assert 0.1 < weight(26) < 1
    assert weight(31) == 1
    assert weight(59, ramp_epochs=4) == pytest.approx(torch.exp(torch.tensor(-5.0 / 16)).item())
    assert weight(60, ramp_epochs=4) == 1


@pytest.mark.parametrize("pretraining", ["auto", 0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [7, 100, 3000, 20_000, 60_001])
def test_self_training_is_counted_from_where_its_stage_begins(pretraining: float | str, steps: int) -> None:
    options = PretrainingOptions.model_validate({"pretraining": pretraining})
    last = spans(options.stages(), steps)[-1]
    if last.stage.name == "selftraining":
        for step in (last.first, steps - 1):
            clock = options.selftraining(Clock(step, steps, 0, 10))
            assert (clock.step, clock.steps) == (step - last.first, steps - last.first)
            assert 0 <= clock.epoch <= clock.epochs <= 10

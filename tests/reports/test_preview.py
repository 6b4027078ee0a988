"""Pictures of the first batches, without training."""

from __future__ import annotations

from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import semiseg
from commands import semiseg as command
from semiseg.errors import InputError
from semiseg.methods.base import registry
from semiseg.reports import preview as module
from semiseg.reports.batch_pictures import Strip
from semiseg.runs.folder import Run
from semiseg.settings.load import load_config
from semiseg.training.session import open_session
from tiny import tiny_dataset

SMALL = {
    "network": {"options": {"filters": [8, 16], "strides": [[1, 1], [2, 2]]}},
    "batch": {"patch": [16, 16], "labelled": 4, "unlabelled": 4},
    "plan": {"spatial_dims": 2},
    "labelled": 3,
    "accelerator": "cpu",
    "precision": "fp32",
    "steps": 50,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("tiny"), cases=6, labelled=3)


def _strips(data: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> list[list[Strip]]:
    """What is drawn for each batch."""
    drawn: list[list[Strip]] = []
    monkeypatch.setattr(module, "draw_batch", lambda strips, path, **_: drawn.append([*strips]))
    module.preview(load_config(None, {"data": data, **SMALL, **settings}), output, 2)
    return drawn


def test_patches_are_those_that_the_training_begins_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = _strips(data, tmp_path, monkeypatch, method="supervised", batch={"patch": [16, 16], "labelled": 4})
    config = load_config(None, {"data": data, **SMALL, "method": "cps"})
    pairs = _strips(data, tmp_path, monkeypatch, method="cps")
    with open_session(config, Run(tmp_path / "run")) as session:
        batches = [session.batches(step) for step in range(2)]
    for (labelled, unlabelled), (alone,), batch in zip(pairs, drawn, batches, strict=True):
        assert (labelled.title, unlabelled.title) == ("labelled", "unlabelled")
        assert np.array_equal(labelled.images, batch.labelled.numpy())
        assert np.array_equal(unlabelled.images, batch.unlabelled.numpy())
        assert labelled.labels is not None
        assert np.array_equal(labelled.labels, batch.labels.numpy())
        assert labelled.cases + unlabelled.cases == batch.cases
        assert unlabelled.labels is None
        assert np.array_equal(alone.images, labelled.images)


def test_mixtures_are_shown_as_the_networks_see_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A voxel of a pasted image is that of one of two patches."""
    for labelled, unlabelled, *mixed in _strips(data, tmp_path, monkeypatch, method="cml"):
        assert {strip.title for strip in mixed} == {"into subnet_a, subnet_b"}
        assert len(mixed) == 2
        for strip, source in zip(mixed, (labelled, unlabelled), strict=True):
            for image in strip.images:
                pairs = combinations(source.images, 2)
                assert any(((image == one) | (image == other)).all() for one, other in pairs)


def test_mixup_lies_between_its_images(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for labelled, unlabelled, mixed in _strips(data, tmp_path, monkeypatch, method="ducisc"):
        low = np.minimum(labelled.images, unlabelled.images) - 1e-5
        high = np.maximum(labelled.images, unlabelled.images) + 1e-5
        assert ((low <= mixed.images) & (mixed.images <= high)).all()


def test_noise_of_a_teacher_is_shown_and_the_plain_patches_only_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, unlabelled, *more in _strips(data, tmp_path, monkeypatch, method="uamt"):
        assert len(more) == module.MOST
        assert all(strip.title.startswith("into teacher") for strip in more)
        assert more[-1].title == "into teacher (1 more are not shown)"
        assert 0 < np.abs(more[0].images - unlabelled.images).max() <= 0.2 + 1e-5


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_method_has_a_preview(name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for strips in _strips(data, tmp_path, monkeypatch, method=name):
        assert strips[0].title == "labelled"
        assert all(np.isfinite(strip.images).all() for strip in strips)


def test_the_same_settings_give_the_same_pictures(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = _strips(data, tmp_path, monkeypatch, method="micd")
    torch.rand(3)
    two = _strips(data, tmp_path, monkeypatch, method="micd")
    for first, second in zip(chain(*one), chain(*two), strict=True):
        assert np.array_equal(first.images, second.images)


def test_no_run_is_begun_and_one_can_be_begun_there(data: Path, tmp_path: Path) -> None:
    written = semiseg.preview(data, tmp_path, count=2, method="cps", **SMALL)
    assert written == [tmp_path / "preview" / "batch_1.png", tmp_path / "preview" / "batch_2.png"]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == written
    assert semiseg.train(data, tmp_path, method="cps", **{**SMALL, "steps": 1}).finished
    assert semiseg.preview(data, tmp_path, count=1, method="cml", **SMALL)[0].is_file()
    assert Run(tmp_path).config().method == "cps"


def test_no_more_batches_than_steps(data: Path, tmp_path: Path) -> None:
    assert len(semiseg.preview(data, tmp_path, count=5, method="cps", **{**SMALL, "steps": 2})) == 2


def test_the_command_line_prints_the_pictures(tmp_path: Path) -> None:
    root = tiny_dataset(tmp_path / "data", cases=4, labelled=2)
    words = ("--method", "cml", "--preview", 1, "--labelled", 2, "--output", tmp_path / "run")
    done = command("train", root, *words, "--set", "batch.patch=[16, 16, 16]")
    path = tmp_path / "run" / "preview" / "batch_1.png"
    assert done.stdout.split() == [str(path)]
    with Image.open(path) as image:
        assert image.format == "PNG"


def test_wrong_settings_are_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="9"):
        semiseg.preview(data, tmp_path, **{**SMALL, "labelled": 9})
    assert not list(tmp_path.iterdir())

"""From a preset to scores under both protocols, on tiny scans: what is replayed, what is stamped, what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import semiseg
from semiseg.errors import InputError
from semiseg.evaluation.evaluate import evaluate
from semiseg.runs import checkpoint
from semiseg.settings.load import load_config
from semiseg.training import train as module
from semiseg.training.train import train
from semiseg.training.validate import Validation, centre_patch
from tiny import tiny_dataset

TINY = """
preset: la
method: supervised
network: {options: {filters: 2, dropout: 0}}
batch: {labelled: 2, patch: [16, 16, 16]}
optimiser: {lr: 0.05, every: 50}
window: {stride: [4, 4, 8]}
steps: 6
checkpoint_every: 4
log_every: 2
accelerator: cpu
precision: fp32
"""
PAPER = """
protocol: paper
plan: {crop: {margin: [[1, 2], [1, 2], [1, 1]], smallest: [2, 2, 2], axes: [0, 1]}}
select: best
select_on: test
validate_every: 2
validate_from: 3
window: {stride: [4, 4, 8], validation_stride: [8, 8, 16]}
largest_component: true
"""
SPLIT = {
    "labelled": [f"case_{index:03d}" for index in range(4)],
    "unlabelled": ["case_004"],
    "test": ["case_005", "case_006"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny_dataset(tmp_path_factory.mktemp("tiny") / "data", cases=7, labelled=7, shape=(28, 26, 16), classes=2)
    (root / "splits").mkdir()
    (root / "splits" / "l4.json").write_text(json.dumps(SPLIT))
    return root


def _trained(data: Path, root: Path, text: str) -> tuple[Path, list[str]]:
    root.mkdir(exist_ok=True)
    (root / "settings.yaml").write_text(text)
    told: list[str] = []
    run = semiseg.train(data, root / "run", config=root / "settings.yaml", labelled=4, say=told.append)
    return run.path, told


@pytest.fixture(scope="module")
def honest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    return _trained(data, tmp_path_factory.mktemp("honest"), TINY)


@pytest.fixture(scope="module")
def paper(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    replaced = TINY.replace("window: {stride: [4, 4, 8]}", "")
    return _trained(data, tmp_path_factory.mktemp("paper"), replaced + PAPER)


def test_an_honest_run_is_not_stamped_and_tells_what_the_paper_does(honest: tuple[Path, list[str]]) -> None:
    run, told = honest
    assert told[0] == "preset la, method supervised, protocol honest; it differs from the paper in"
    crop = "margin [[10, 19], [10, 19], [5, 9]], smallest [112, 112, 80], axes [0, 1]"
    assert f"  plan.crop: none; the paper: around the label ({crop})" in told
    assert "  steps: 6; the paper: 6000" in told
    facts = json.loads((run / "provenance.json").read_text())
    assert (facts["protocol"], facts["stamps"], facts["based_on"]) == ("honest", [], "la")
    assert [f"  {line}" for line in facts["deviations"]] == told[1:-2]
    assert told[-2].startswith("supervised: 4 labelled")
    semiseg.predict(run)
    scores = semiseg.evaluate(run)
    assert scores.stamps == ()
    assert "NOT AN HONEST RESULT" not in scores.table()
    kept = json.loads((run / "scores.json").read_text())
    assert kept["stamps"] == []
    assert kept["provenance"]["deviations"] == facts["deviations"]


def test_predict_and_evaluate_follow_the_run_without_options(honest: tuple[Path, list[str]]) -> None:
    run, _ = honest
    config = semiseg.train(config=run / "config.yaml", output=run).config()  # finished: nothing is done
    assert config.window.stride == (4, 4, 8)
    semiseg.predict(run)
    how = json.loads((run / "predictions" / "inference.json").read_text())
    assert how.pop("labels")["background"] == 0
    assert how == {"patch": [16, 16, 16], "stride": [4, 4, 8], "weights": "uniform", "largest_component": False}
    scores = semiseg.evaluate(run)
    assert (scores.empty, scores.unit) == ("official", "voxel")
    heading = scores.table().splitlines()[0]
    assert "95HD voxel" in heading
    assert "mm" not in heading
    assert semiseg.evaluate(run, empty="nan").empty == "nan"
    semiseg.predict(run, overlap=0.25, largest_component=True)
    how = json.loads((run / "predictions" / "inference.json").read_text())
    assert (how["stride"], how["largest_component"]) == ([12, 12, 12], True)
    assert "component of each predicted class only: yes" in semiseg.evaluate(run).table()


def test_windows_are_those_of_the_run(honest: tuple[Path, list[str]], data: Path) -> None:
    """The prediction equals the uniform average over the windows of the preset's kind, computed here by hand."""
    import torch

    from semiseg.prediction.predict import load_predictor
    from semiseg.preparing.preprocess import preprocess
    from semiseg.runs.folder import Run
    from semiseg.scans.readers import read_image

    predictor = load_predictor(Run(honest[0]))
    paths = [data / "imagesTr" / "case_005_0000.nii.gz"]
    image = torch.from_numpy(preprocess(read_image(paths), predictor.plan)[0])
    assert image.shape[1:] == (28, 26, 16)  # neither cropped nor resampled
    total, count = torch.zeros(2, 28, 26, 16), torch.zeros(28, 26, 16)
    for x in (0, 4, 8, 12):
        for y in (0, 4, 8, 10):
            with torch.no_grad():
                total[:, x : x + 16, y : y + 16] += predictor.method.predict(
                    image[None, :, x : x + 16, y : y + 16].contiguous()
                )[0]
            count[x : x + 16, y : y + 16] += 1
    np.testing.assert_array_equal(predictor.label(paths), (total / count).argmax(0).numpy())


def test_a_paper_run_is_stamped_on_every_table(paper: tuple[Path, list[str]], data: Path) -> None:
    run, told = paper
    assert "  select: best on the test cases; the paper: last" in told
    facts = json.loads((run / "provenance.json").read_text())
    assert facts["stamps"] == ["test-selected", "cropped around the truth"]
    assert facts["protocol"] == "paper (test-selected, cropped around the truth)"
    assert facts["label_budget"] == {"training": 4, "selection": 2}
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [3, 5, 6]
    semiseg.predict(run)
    scores = semiseg.evaluate(run)
    assert "NOT AN HONEST RESULT: test-selected, cropped around the truth" in scores.table()
    assert json.loads((run / "scores.json").read_text())["stamps"] == facts["stamps"]
    assert json.loads((run / "predictions" / "inference.json").read_text())["largest_component"]


def test_test_scans_are_cut_like_the_training_scans(paper: tuple[Path, list[str]], data: Path) -> None:
    run, _ = paper
    semiseg.predict(run)
    truth = np.asarray(nib.load(data / "labelsTr" / "case_005.nii.gz").dataobj) > 0
    found = np.asarray(nib.load(run / "predictions" / "case_005.nii.gz").dataobj)
    assert found.shape == truth.shape
    inside = [np.flatnonzero(truth.any(axis=axes)) for axes in ((1, 2), (0, 2))]
    for axis, filled in enumerate(inside):
        near = slice(max(filled[0] - 2, 0), filled[-1] + 3)
        outside = np.delete(found, np.arange(found.shape[axis])[near], axis=axis)
        assert not outside.any()


def test_no_label_is_needed_for_other_scans(paper: tuple[Path, list[str]], data: Path, tmp_path: Path) -> None:
    written = semiseg.predict(paper[0], data / "imagesTr" / "case_004_0000.nii.gz", tmp_path)
    assert nib.load(written["case_004"]).shape == (28, 26, 16)


def test_scores_of_scans_that_the_import_has_cut_say_so(data: Path, tmp_path: Path) -> None:
    cut = tiny_dataset(tmp_path / "data", cases=4, labelled=4, classes=2)
    description = json.loads((cut / "dataset.json").read_text())
    (cut / "dataset.json").write_text(json.dumps({**description, "imported": {"cropped_around_labels": True}}))
    config = _config(cut, labelled=2, test=1, steps=1)
    run = train(config, tmp_path / "run", show=False).path
    semiseg.predict(run)
    assert semiseg.evaluate(run).stamps == ("cropped around the truth",)


SMALL: dict[str, Any] = {
    "method": "mean_teacher",
    "network": {"options": {"filters": [2, 4], "strides": [[1, 1, 1], [2, 2, 2]]}},
    "batch": {"patch": [8, 8, 8], "labelled": 1, "unlabelled": 2},
    "accelerator": "cpu",
    "precision": "fp32",
    "log_every": 1,
}


def _config(data: Path, **settings: object) -> Any:
    return load_config(None, {"data": data, **SMALL, **settings})


def test_a_length_in_epochs_is_written_down_in_steps(data: Path, tmp_path: Path) -> None:
    settings = {"labelled": 2, "epochs": 3, "optimiser": {"unit": "epoch", "lag": True, "lr": 0.5, "length": 10}}
    config = _config(data, **settings)
    run = train(config, tmp_path / "run", show=False)
    assert run.config().steps == 9  # five unlabelled scans, two at a time: three steps an epoch
    assert run.config().epochs == 3
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [line["lr"] for line in lines] == pytest.approx([0.5] * 6 + [0.5 * 0.9**0.9] * 3)
    stamp = (run.checkpoints / "final.json").stat().st_mtime_ns
    train(config, tmp_path / "run", show=False)
    train(load_config(tmp_path / "run" / "config.yaml", {}), tmp_path / "run", show=False)
    assert (run.checkpoints / "final.json").stat().st_mtime_ns == stamp  # it was finished, both times
    with pytest.raises(InputError, match="epochs: was 3, now 4"):
        train(_config(data, **{**settings, "epochs": 4}), tmp_path / "run", show=False)


def test_an_epoch_of_labelled_scans_alone(data: Path, tmp_path: Path) -> None:
    config = _config(data, method="supervised", labelled=4, epochs=2)
    assert train(config, tmp_path / "run", show=False).config().steps == 8


def _scores(monkeypatch: pytest.MonkeyPatch, *scores: float) -> None:
    """Validations give these scores in turn."""
    left = list(scores)
    monkeypatch.setattr(module, "validate", lambda session: Validation(left.pop(0), {}))


BEST = {"labelled": 2, "validation": 1, "select": "best", "validate_unit": "epoch", "validate_every": 1, "epochs": 9}


def test_validation_in_epochs_and_patience(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four unlabelled scans: two steps an epoch. Best at the second validation, and two worse ones end the run."""
    _scores(monkeypatch, 0.1, 0.7, 0.6, 0.7)
    run = train(_config(data, **BEST, validate_from=2, patience=2), tmp_path, show=False)
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [4, 6, 8, 10]
    assert run.finished
    assert run.config().steps == 18
    steps = [checkpoint.load(run.checkpoints, name).state["step"] for name in ("best", "final")]
    assert steps == [6, 10]


def test_a_run_that_ended_early_goes_no_further(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between its last checkpoint and its final weights."""
    _scores(monkeypatch, 0.7, 0.6)
    config = _config(data, **BEST, patience=1)
    run = train(config, tmp_path, show=False)
    (run.checkpoints / "final.json").unlink()
    assert train(config, tmp_path, show=False).finished  # a further validation would find no score
    assert checkpoint.load(run.checkpoints, "final").state["step"] == 4


def test_wrong_selections(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="patience needs select: best"):
        _config(data, labelled=2, patience=3)
    config = _config(data, labelled=2, protocol="paper", select="best")
    with pytest.raises(InputError, match="select: best needs test cases, the split has none"):
        train(config, tmp_path / "run", show=False)
    assert not (tmp_path / "run").exists()


def test_choosing_on_one_patch_in_the_centre(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither prediction nor label of the centre has a class, it counts as one half."""
    from semiseg.training import validate as validation

    seen: list[tuple[int, ...]] = []

    def background(session: object, image: np.ndarray, predict: object) -> np.ndarray:
        seen.append(image.shape)
        return np.zeros(image.shape[1:], np.uint8)

    monkeypatch.setattr(validation, "_label", background)
    monkeypatch.setattr(validation, "centre_patch", lambda array, patch: centre_patch(array, patch) * 0)
    settings = {"labelled": 2, "validation": 1, "select": "best", "validate_with": "centre", "steps": 1}
    run = train(_config(data, **settings), tmp_path, show=False)
    assert seen == [(1, 8, 8, 8)]
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [line["validation"]["dice"] for line in lines if "validation" in line] == [0.5]


@pytest.mark.parametrize(
    ("shape", "patch", "starts"),
    [((9, 12, 4), (4, 4, 4), (2, 4, 0)), ((9, 11, 3), (4, 4, 4), (2, 4, 0)), ((9, 12, 5), (4, 4), (2, 4, 0))],
)
def test_centre_patches(shape: tuple[int, ...], patch: tuple[int, ...], starts: tuple[int, ...]) -> None:
    """Halves are rounded to even numbers, as the official loader does."""
    array = np.arange(np.prod(shape)).reshape(1, *shape)
    found = centre_patch(array, patch)
    assert np.unravel_index(found.ravel()[0], shape) == starts
    assert found.shape[1:] == tuple(min(a, b) for a, b in zip((*patch, 99), shape, strict=False))


def test_stamps_need_no_run(tmp_path: Path, data: Path) -> None:
    """Folders of predictions have no stamps: nothing is known of where they come from."""
    assert evaluate(data / "labelsTr", data / "labelsTr", class_names=("background", "a")).stamps == ()

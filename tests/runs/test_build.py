"""What settings mean for the data: batches that a method can use, and what is known of the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import semiseg
from semiseg.batches.augment import AugmentConfig
from semiseg.batches.sampler import BatchPlan
from semiseg.comparison.cells import cells_of
from semiseg.comparison.grid import Grid, MethodEntry
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.preparing.plan import Plan
from semiseg.preparing.prepare import prepare
from semiseg.runs import build as resolve
from semiseg.runs.build import Build, check_batch, one_piece
from semiseg.scans.components import piece_sizes
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.training.memory import MemoryInputs, explained
from tiny import tiny_dataset, write_nifti

SMALL = {"options": {"filters": [4, 8]}}


def batch_of(labelled: int, unlabelled: int) -> BatchPlan:
    return BatchPlan(labelled, unlabelled, (16, 16, 16), 0.0, AugmentConfig.none())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny_dataset(tmp_path_factory.mktemp("resolve") / "data", cases=4, labelled=2)
    label = np.zeros((20, 18, 16), np.uint8)
    label[4:9, 4:9, 4:9] = 1
    label[12:18, 4:8, 4:12] = 2
    label[12:18, 11:15, 4:12] = 2  # two pieces
    write_nifti(root / "labelsTr" / "case_000.nii.gz", label)
    prepare(open_dataset(root), None)
    return root


@pytest.mark.parametrize("half", ["labelled", "unlabelled"])
def test_a_lonely_patch_is_refused_by_methods_that_mix_before_any_work(data, tmp_path, half):
    settings = {"network": SMALL, "steps": 1, "accelerator": "cpu", "batch": {half: 1}}
    with pytest.raises(InputError, match=rf"batch\.{half}: cml mixes .* set batch\.{half}=2"):
        semiseg.train(data, tmp_path / "run", method="cml", **settings)
    assert not (tmp_path / "run").exists()


def test_every_process_needs_a_pair():
    config, batch = RunConfig(data="data", method="cml"), batch_of(2, 4)
    check_batch(config, batch, 1)
    with pytest.raises(InputError, match=r"batch\.labelled.*in each process, came 2: set batch\.labelled=4"):
        check_batch(config, batch, 2)


@pytest.mark.parametrize(("method", "half"), [("cml", "labelled"), ("cml", "unlabelled"), ("bcp", "labelled")])
def test_a_lonely_patch_is_refused_when_settings_are_read(method, half):
    message = rf"batch\.{half}: {method} mixes .* set batch\.{half}=2"
    with pytest.raises(InputError, match=message):
        load_config(None, {"data": "nowhere", "method": method, "batch": {half: 1}})
    with pytest.raises(InputError, match=rf"in each process, came 3: set batch\.{half}=4"):
        load_config(None, {"data": "nowhere", "method": method, "batch": {half: 3}, "devices": 2})


def test_a_comparison_refuses_a_lonely_patch_before_any_cell_is_trained():
    methods = (MethodEntry(method="cps"), MethodEntry(method="cml"))
    with pytest.raises(InputError, match=r"batch\.labelled: cml mixes"):
        cells_of(Grid(data="nowhere", methods=methods, labelled=(4,), settings={"batch": {"labelled": 1}}))


@pytest.mark.parametrize(("method", "options"), [("cml", {"cutmix": False}), ("cml-cfl", {}), ("supervised", {})])
def test_methods_that_do_not_mix_take_one_patch(method, options):
    check_batch(RunConfig(data="data", method=method, options=options), batch_of(1, 1), 1)


def test_advice_on_memory_never_leaves_a_patch_alone(data):
    plan = Plan.load(data / "prepared" / "plan.json")

    def advice(method: str) -> str:
        config = load_config(None, {"data": "data", "network": SMALL, "method": method})
        config = config.model_copy(update={"batch": config.batch.model_copy(update={"labelled": 2, "unlabelled": 4})})
        with pytest.raises(InputError) as caught, explained(MemoryInputs(Build(config, plan)), Path("run")):
            raise MemoryError
        return str(caught.value)

    assert "batch.labelled" not in advice("cml")
    assert "batch.unlabelled=2" in advice("cml")
    assert "batch.labelled=1" in advice("cps")


def test_a_class_is_one_piece_only_if_it_is_so_in_every_labelled_scan(data):
    store = prepare(open_dataset(data), None)
    assert one_piece(store, ["case_001"]) == (True, True, True)
    assert one_piece(store, ["case_000", "case_001"])[1:] == (True, False)


def test_pieces_are_looked_for_once_per_scan_and_not_where_they_are_known(data, monkeypatch):
    asked, real = [], resolve.piece_sizes

    def recorded(labels, classes):
        asked.append(list(classes))
        return real(labels, classes)

    monkeypatch.setattr(resolve, "piece_sizes", recorded)
    one_piece(prepare(open_dataset(data), None), ["case_000", "case_001"])
    assert asked == [[1, 2], [1]]


def test_sizes_of_pieces():
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[0, 0, :3] = 1
    labels[1, 1, 3] = 1  # joined by a corner
    labels[5, 5, 5] = 1
    labels[3, :2] = 3
    assert piece_sizes(labels, [1, 2, 3, 4]).tolist() == [[4, 0, 12, 0], [5, 0, 12, 0]]
    assert piece_sizes(labels, []).shape == (2, 0)

"""What settings mean for the data: batches that a method can use, and what is known of the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import semiseg
from semiseg.config import RunConfig, load_config
from semiseg.data.augment import AugmentConfig
from semiseg.data.batches import BatchPlan
from semiseg.data.plan import Plan
from semiseg.data.prepare import prepare
from semiseg.engine.memory import Step, explained
from semiseg.engine.resolve import check_batch, one_piece
from semiseg.errors import InputError
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
    prepare(root, None)
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


@pytest.mark.parametrize(("method", "options"), [("cml", {"cutmix": False}), ("cml-cfl", {}), ("supervised", {})])
def test_methods_that_do_not_mix_take_one_patch(method, options):
    check_batch(RunConfig(data="data", method=method, options=options), batch_of(1, 1), 1)


def test_advice_on_memory_never_leaves_a_patch_alone(data):
    plan = Plan.load(data / "prepared" / "plan.json")

    def advice(method: str) -> str:
        config = load_config(None, {"data": "data", "network": SMALL, "method": method})
        config = config.model_copy(update={"batch": config.batch.model_copy(update={"labelled": 2, "unlabelled": 4})})
        with pytest.raises(InputError) as caught, explained(Step(config, plan), Path("run")):
            raise MemoryError
        return str(caught.value)

    assert "batch.labelled" not in advice("cml")
    assert "batch.unlabelled=2" in advice("cml")
    assert "batch.labelled=1" in advice("cps")


def test_a_class_is_one_piece_only_if_it_is_so_in_every_labelled_scan(data):
    store = prepare(data, None)
    assert one_piece(store, ["case_001"]) == (True, True, True)
    assert one_piece(store, ["case_000", "case_001"])[1:] == (True, False)

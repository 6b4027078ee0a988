"""Sliding-window scores and labels against the official functions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from golden_files import golden
from semiseg.prediction.windows import sliding_labels, sliding_windows, window_starts


def toy(classes: int):
    """The file's network: logits from intensity and in-patch position, then softmax."""

    def predict(images: Tensor) -> Tensor:
        p = images[:, 0].double()
        u, v, w = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / (n - 1) for n in p.shape[1:]), indexing="ij")
        logits = [0.3 * p, 1.5 * p + (u - 0.5) + 0.7 * (v - 0.5) * w, 0.8 * w - 0.5 * p**2]
        return torch.stack(logits[:classes], 1).float().softmax(1)

    return predict


def test_scores_and_labels():
    file = golden("sliding_window")
    for name in file["cases"]:
        case = {key.removeprefix(f"{name}/"): value for key, value in file.items() if key.startswith(f"{name}/")}
        image, patch = torch.from_numpy(case["image"])[None], case["patch"].tolist()
        stride = [int(case["stride_xy"])] * 2 + [int(case["stride_z"])]
        counts = [len(window_starts(*axis)) for axis in zip(image.shape[1:], patch, stride, strict=True)]
        assert counts == case["n_windows"].tolist(), name
        predict = toy(int(case["num_classes"]))
        for batch in (1, 4):
            score = sliding_windows(predict, image, patch, stride, batch=batch).numpy()
            np.testing.assert_allclose(score, case["score"], atol=1e-5, rtol=0, err_msg=name)
            labels = sliding_labels(predict, image, patch, stride, batch=batch).numpy()
            best_two = np.sort(case["score"], axis=0)[-2:]
            clear = best_two[1] - best_two[0] > 1e-6
            np.testing.assert_array_equal(labels[clear], case["label"][clear], err_msg=name)
            if "label_threshold" in case:
                np.testing.assert_array_equal((score[1] > 0.5)[clear], case["label_threshold"][clear], err_msg=name)

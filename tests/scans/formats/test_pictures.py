"""PNG and TIFF: grey values, colours, indices, pages, and what would lose bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scans.foreign import png, voxels
from semiseg.errors import InputError
from semiseg.scans.readers import read_header, read_image, read_label


def _save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def _refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_image([path])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    for word in words:
        assert word in problem


@pytest.mark.parametrize(
    ("ending", "dtype"),
    [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint8), (".tiff", np.uint16), (".tif", np.float32)],
)
def test_grey_values_come_back(tmp_path: Path, ending: str, dtype: type) -> None:
    rows = (voxels((6, 7), np.int32) * 5).astype(dtype)
    path = _save(tmp_path / f"a{ending}", rows)
    volume = read_image([path])
    assert (volume.array.dtype, volume.array.shape) == (np.float32, (1, 7, 6, 1))
    np.testing.assert_array_equal(volume.array[0, :, :, 0], rows.T)
    assert (volume.spacing, volume.recorded) == ((1, 1, 1), False)
    assert read_image([path], spacing=(0.2, 0.3, 1)).spacing == (0.2, 0.3, 1)
    header = read_header(path)
    assert (header.shape, header.dtype, header.channels) == ((7, 6, 1), dtype, 1)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_colours_are_three_channels(tmp_path: Path, ending: str) -> None:
    rows = voxels((6, 7, 3), np.uint8)
    path = _save(tmp_path / f"a{ending}", rows)
    for channels in (None, 3):
        array = read_image([path], channels=channels).array
        np.testing.assert_array_equal(array[..., 0], rows.transpose(2, 1, 0))
    with pytest.raises(InputError, match="expected one class index per voxel, came 3 values"):
        read_label(path)
    with pytest.raises(InputError, match=r"expected 1 channel\(s\), came 3"):
        read_image([path], channels=1)


def test_a_palette_is_colours_in_an_image_and_indices_in_a_label(tmp_path: Path) -> None:
    indices = (voxels((6, 7)) % 3).astype(np.uint8)
    picture = Image.fromarray(indices)
    picture = picture.convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 9, 255])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array[..., 0], indices.T)
    red = read_image([tmp_path / "a.png"]).array[0, :, :, 0]
    np.testing.assert_array_equal(red, np.where(indices.T == 1, 255, 0))


def test_black_and_white_is_one_and_zero(tmp_path: Path) -> None:
    rows = voxels((6, 7)) % 2 == 0
    _save(tmp_path / "a.png", rows)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array[..., 0], rows.T)


def test_pages_are_slices(tmp_path: Path) -> None:
    pages = [Image.fromarray(page) for page in voxels((5, 6, 7), np.uint16)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_image([tmp_path / "a.tif"]).array[0], voxels((5, 6, 7)).T.swapaxes(0, 0))
    pages = [Image.fromarray(voxels((6, 7), np.uint8)), Image.fromarray(voxels((6, 8), np.uint8))]
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    _refused(tmp_path / "b.tif", "expected pages of one kind and size")


def test_what_would_lose_bits_or_transparency_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 2, bytes(13)))
    _refused(tmp_path / "a.png", "came 16-bit RGB")
    _refused(_save(tmp_path / "b.png", voxels((6, 7, 4), np.uint8)), "came RGBA", "alpha channel")


def test_headers_that_promise_too_much_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(9000, 9000, 8, 0, bytes(100)))
    _refused(tmp_path / "a.png", "promises shape [9000, 9000, 1, 1]")
    (tmp_path / "b.png").write_bytes(png(99999, 99999, 8, 0, bytes(100)))
    _refused(tmp_path / "b.png", "decompression bomb")


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, ending: str, share: float) -> None:
    path = _save(tmp_path / f"a{ending}", voxels((60, 70), np.uint16))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    _refused(path)


def test_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    _refused(tmp_path / "a.png", "expected a whole picture file, came a cut off or damaged one")

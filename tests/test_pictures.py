"""Stored pictures of every kind become RGB without losing a bit, or are refused on opening."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import SMALL
from telling_data import misaligned, write_telling

pytest.importorskip("lerobot", reason="training needs the extra [lerobot]")

import shutil
from types import SimpleNamespace

from dataset_damage import DATA
from pyarrow import parquet

from vp_agent.errors import DatasetError
from vp_agent.train.dataset import Demonstrations
from vp_agent.train.lerobot.training_data import open_theirs
from vp_agent.train.pictures import image_size, to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = RGB[..., 0]
FEW = (RGB // 64 * 64).astype(np.uint8)
CONFIG = SMALL.replace(frame_stride=1)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of_16_bits(image_HW3: np.ndarray) -> bytes:
    """RGB of 16 bits, which Pillow reads as if it were of 8."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = image_HW3.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in image_HW3)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.fromarray(RGB)), RGB),
        (encoded(Image.fromarray(GREY)), np.stack([GREY] * 3, axis=-1)),
        (encoded(Image.fromarray(FEW).quantize(256)), FEW),
        (encoded(Image.fromarray(GREY > 99)), np.stack([(GREY > 99) * np.uint8(255)] * 3, -1)),
        (encoded(Image.fromarray(np.dstack([RGB, GREY * 0 + 255]), "RGBA")), RGB),
        (encoded(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (8, 6), 255)])),
         np.stack([GREY] * 3, axis=-1)),
    ],
    ids=["RGB", "grey", "palette", "one bit", "opaque", "opaque grey"],
)  # fmt: skip
def test_a_picture_that_holds_no_more_than_rgb_is_converted_exactly(content, expected):
    assert np.array_equal(to_rgb(content), expected)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded(Image.fromarray(GREY.astype(np.uint16) * 257)), "kind I;16"),
        (png_of_16_bits(RGB.astype(np.uint16) * 257), "RGB of 16 bits"),
        (encoded(Image.fromarray(RGB.astype(np.float32)[..., 0]), "TIFF"), "kind F"),
        (encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "kind CMYK"),
        (encoded(Image.fromarray(np.dstack([RGB, GREY]), "RGBA")), "transparent in places"),
        (encoded(Image.fromarray(RGB), transparency=(1, 2, 3))[:60], "damaged|no picture"),
        (b"GIF", "no picture"),
        (None, "not in the table"),
    ],
    ids=[
        "grey of 16 bits",
        "RGB of 16 bits",
        "float",
        "CMYK",
        "transparent",
        "cut",
        "text",
        "path",
    ],
)
def test_a_picture_that_would_lose_something_is_refused(content, words):
    with pytest.raises(ValueError, match=words):
        to_rgb(content)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_telling(tmp_path_factory.mktemp("stored") / "data", video=False)


@pytest.fixture
def root(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "data"))


def restore(root: Path, change, *, rows=slice(None)) -> None:
    """Stores the pictures of the view `left` as `change(image)` gives them."""
    import pyarrow

    table = parquet.read_table(root / DATA)
    at = table.column_names.index("observation.images.left")
    cells = table.column(at).to_pylist()
    for cell in cells[rows]:
        cell["bytes"] = change(Image.open(BytesIO(cell["bytes"])))
    column = pyarrow.array(cells, table.schema.field(at).type)
    parquet.write_table(table.set_column(at, table.schema.field(at), column), root / DATA)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_pictures_of_another_kind_are_trained_on_as_rgb_and_refused_to_lerobot(root, mode):
    restore(root, lambda image: encoded(image.convert(mode)))
    assert misaligned(Demonstrations(root, CONFIG)) == []
    with pytest.raises(DatasetError, match=rf"LeRobot reads pictures of kind {mode} as they are"):
        open_theirs(SimpleNamespace(root=root, repo_id="telling/data"))


@pytest.mark.parametrize("mode", ["I;16", "CMYK"])
def test_pictures_that_rgb_cannot_hold_are_refused_on_opening(root, mode):
    def change(image):
        if mode == "CMYK":
            return encoded(image.convert("CMYK"), "JPEG")
        return encoded(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257))

    restore(root, change)
    with pytest.raises(DatasetError, match=rf"view left: a picture of kind {mode}"):
        Demonstrations(root, CONFIG)


def test_a_picture_in_the_middle_is_named_when_it_is_read(root):
    restore(root, lambda _: encoded(Image.new("CMYK", (32, 32)), "JPEG"), rows=slice(12, 13))
    data = Demonstrations(root, CONFIG)
    with pytest.raises(DatasetError, match=r"frame 12 \(episode 1, in data/.*kind CMYK"):
        data.pixels(np.array([12]))


def test_a_picture_of_another_size_is_refused_on_opening(root):
    restore(root, lambda image: encoded(image.resize((16, 16))))
    with pytest.raises(DatasetError, match=r"height and width are \(16, 16\), info\.json says"):
        Demonstrations(root, CONFIG)


def test_a_depth_map_is_no_view(root):
    import json

    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"]["observation.images.left"]["info"] = {"is_depth_map": True}
    path.write_text(json.dumps(info))
    with pytest.raises(DatasetError, match=r"'left' .* is a depth map, expected pictures"):
        Demonstrations(root, CONFIG)


@pytest.mark.parametrize(
    "feature",
    [
        {"shape": [48, 64, 3], "names": ["height", "width", "channels"]},
        {"shape": [48, 64, 3], "names": ["height", "width", "channel"]},
        {"shape": [3, 48, 64], "names": ["channels", "height", "width"]},
        {"shape": [3, 48, 64], "names": None},
        {"shape": [48, 64, 3]},
    ],
)
def test_the_size_of_a_picture_is_read_in_any_order(feature):
    assert image_size(feature) == (48, 64, 3)

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from wdp_edge.data.folder import check_classes, scan
from wdp_edge.demo.digits import write_digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    assert write_digits(folder) == (1442, 355)
    return folder


def test_writes_two_class_balanced_folders(digits: Path) -> None:
    train, val = scan(digits / "train"), scan(digits / "val")
    check_classes(train, val, 10)
    assert (len(train), len(val)) == (1442, 355)
    for few, many in zip(val.by_class(), train.by_class(), strict=True):
        assert len(few) == (len(few) + len(many)) // 5
    assert not {Path(p).name for p in train.paths} & {Path(p).name for p in val.paths}


def test_images_are_what_the_model_expects(digits: Path) -> None:
    with Image.open(next((digits / "val" / "7").iterdir())) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))
        low, high = image.convert("L").getextrema()
    assert low == 0
    assert high > 200


def test_the_seed_decides_and_existing_files_stay(digits: Path, tmp_path: Path) -> None:
    write_digits(tmp_path, seed=1)
    assert scan(tmp_path / "val").paths != scan(digits / "val").paths
    changed = digits / "val" / "0" / scan(digits / "val").paths[0].split("/")[1]
    before = changed.read_bytes()
    changed.write_bytes(b"mine")
    write_digits(digits)
    assert changed.read_bytes() == b"mine"
    changed.unlink()
    write_digits(digits)
    assert changed.read_bytes() == before

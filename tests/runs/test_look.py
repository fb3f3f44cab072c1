"""The line that every run has of its first look, and records of before there was one."""

from __future__ import annotations

from pathlib import Path

from wdp_edge.io.files import write_json
from wdp_edge.io.plain import read_as
from wdp_edge.protocols.task import facts_of
from wdp_edge.pruning.first_look import Plausible
from wdp_edge.runs.look import FirstLook, Fit, knows_by_heart


def test_one_line_tells_all_of_it() -> None:
    look = FirstLook("accuracy", 0.813, 256, 0.1, ["a", "b"])
    assert look.line == (
        "dense model: accuracy 81.3% on 256 training images (guessing gives 10.0%); none of 2 other ways to prepare "
        "them is clearly better"
    )
    fits = FirstLook("mIoU", 0.12, 1, fit=Fit("x instead of y", {}, 0.79, 0.12, 1))
    assert fits.line == "dense model: mIoU 12.0% on 1 training image; 79.0% with x instead of y"
    assert FirstLook("mAP", 1.0, 9, untried="why").line.endswith("training images; why")


def test_records_are_read_back_and_older_ones_too(tmp_path: Path) -> None:
    fit = Fit("x instead of y", {"mean": [0.5, 0.5, 0.5], "channels": "bgr"}, 0.8, 0.1, 40)
    record = Plausible(["said"], FirstLook("accuracy", 0.1, 256, 0.1, ["x"], "", fit))
    write_json(tmp_path / "new.json", record)
    assert read_as(tmp_path / "new.json", Plausible) == record
    (tmp_path / "old.json").write_text('{"warnings": ["said"]}')
    assert read_as(tmp_path / "old.json", Plausible) == Plausible(["said"])


def test_only_classes_are_known_by_heart_and_only_nearly_all_of_enough_images() -> None:
    classify = facts_of("classify")
    assert knows_by_heart(classify, 0.99, 256) and knows_by_heart(facts_of("multilabel"), 1.0, 256)
    assert not knows_by_heart(classify, 0.97, 256)
    assert not knows_by_heart(classify, 1.0, 10), "ten right ones of ten may be luck"
    assert not knows_by_heart(classify, None, 256), "without a metric nothing is known"
    assert not knows_by_heart(facts_of("features"), 1.0, 256), "an embedding is compared with itself"
    assert not knows_by_heart(facts_of(classify.without_labels), 1.0, 256), "so is an answer without a label"

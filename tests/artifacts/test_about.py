"""wdp_edge/artifacts/about.py: what an artifact says of itself, and what is read of it."""

from __future__ import annotations

import json

import pytest

from wdp_edge.artifacts.about import KEY, Origin, metadata, read_about
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.io.plain import from_plain
from wdp_edge.models.structure import BlockWidths, Structure

LOOK = Preprocessing((16, 24), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic", 1.0)
STRUCTURE = Structure(32, (BlockWidths(2, 16, 64),))


def test_a_file_tells_how_it_is_fed_and_where_it_comes_from() -> None:
    texts = metadata(Origin("vit_tiny", STRUCTURE, "1234", "classify"), LOOK, ["Käse", "b"], pixels=False)
    assert list(texts) == [KEY] and "Käse" in texts[KEY], "for people to read"
    about = read_about(texts)
    assert about["input"]["shape"] == [1, 3, 16, 24] and about["input"]["dtype"] == "float32"
    assert "mean" in about["input"]["normalization"]
    assert from_plain(Preprocessing, about["input"]["preprocessing"]) == LOOK
    assert (about["model"], about["recipe"], about["classes"]) == ("vit_tiny", "1234", ["Käse", "b"])
    assert about["structure"].pop("digest") == STRUCTURE.digest
    assert from_plain(Structure, about["structure"]) == STRUCTURE


def test_a_file_of_pixels_and_embeddings_says_so() -> None:
    texts = metadata(Origin("vit_tiny", STRUCTURE, "1234", "retrieve"), LOOK, [], pixels=True)
    about = read_about(texts)
    assert (about["input"]["dtype"], about["input"]["normalization"]) == ("uint8", "folded")
    assert about["classes"] == [] and about["output"] != "logits"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", json.dumps("text")])
def test_texts_of_others_are_nothing(text: str) -> None:
    assert read_about({KEY: text}) == {} == read_about({"other": "{}"})

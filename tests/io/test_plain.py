"""`from_plain` undoes `to_plain`, and names the place when the data does not fit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.config.recipe import PruneRecipe, Recipe
from wdp_edge.errors import InputError
from wdp_edge.io.files import to_plain, write_json
from wdp_edge.io.plain import from_plain, read_as
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.protocols.device import Kind, Latency
from wdp_edge.runs.figures import BudgetFigures, ModelFigures
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.stages import Candidate, CurvePoint, Learned, Measured, Round, Selected, Verified
from wdp_edge.shrink.saliency import Importance

FINITE = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**53), 2**53)
WIDTH = st.integers(1, 4096)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Everything:
    number: float
    whole: int
    flag: bool
    text: str
    path: Path
    colour: Colour
    pair: tuple[int, str]
    many: tuple[float, ...]
    grid: list[list[int]]
    by_width: dict[int, float]
    by_name: Mapping[str, list[int]]
    structure: Structure
    maybe: Structure | None
    either: int | str
    anything: Any = None
    defaulted: list[int] = field(default_factory=lambda: [1])


def structures() -> st.SearchStrategy[Structure]:
    blocks = st.lists(st.builds(BlockWidths, WIDTH, WIDTH, WIDTH), min_size=1, max_size=4).map(tuple)
    return st.builds(Structure, WIDTH, blocks)


def everything() -> st.SearchStrategy[Everything]:
    names = st.text(max_size=8)
    return st.builds(
        Everything,
        number=FINITE,
        whole=WHOLE,
        flag=st.booleans(),
        text=names,
        path=st.sampled_from([Path("runs/a"), Path("/x/y.pte")]),
        colour=st.sampled_from(Colour),
        pair=st.tuples(WHOLE, names),
        many=st.lists(FINITE, max_size=4).map(tuple),
        grid=st.lists(st.lists(WHOLE, max_size=3), max_size=3),
        by_width=st.dictionaries(WIDTH, FINITE, max_size=3),
        by_name=st.dictionaries(names, st.lists(WHOLE, max_size=2), max_size=3),
        structure=structures(),
        maybe=st.none() | structures(),
        either=WHOLE | names,
        anything=st.none() | names,
        defaulted=st.lists(WHOLE, max_size=3),
    )


@given(everything())
def test_json_round_trip_gives_back_the_same_value(value: Everything) -> None:
    assert from_plain(Everything, json.loads(json.dumps(to_plain(value)))) == value


latencies = st.builds(Latency, FINITE, FINITE, FINITE, st.sampled_from(Kind))
figures = st.builds(
    ModelFigures,
    accuracy=st.none() | FINITE,
    latency_ms=latencies,
    macs=WHOLE,
    parameters=WHOLE,
    bytes=WHOLE,
    path=st.none() | st.just(Path("artifacts/model.pte")),
    exit=st.none() | WIDTH,
    agreement=st.none() | FINITE,
)
budgets = st.builds(BudgetFigures, FINITE, FINITE, FINITE, st.booleans())
names = st.sampled_from(["executorch", "local"])
results = st.builds(PruneResult, st.just(Path("runs/x")), names, names, names, budgets, figures, figures)
curves = st.lists(st.builds(CurvePoint, WIDTH, WIDTH, st.dictionaries(st.text(max_size=4), FINITE)), max_size=3)
blocks = st.shared(st.integers(1, 3), key="blocks")


def of_each(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """One for each block, of as many blocks in all lists of a record."""
    return blocks.flatmap(lambda count: st.lists(inner, min_size=count, max_size=count))


rows = of_each(st.lists(FINITE, max_size=3))
units = of_each(st.sets(WIDTH, max_size=3).map(sorted))
learned = st.builds(Learned, rows, rows, of_each(FINITE), of_each(FINITE), FINITE, WIDTH, curves)
selected = st.builds(
    Selected,
    kept_heads=units,
    kept_hidden=units,
    predicted_ms=FINITE,
    candidates=st.lists(st.from_type(Candidate), max_size=2).filter(lambda c: c == c),
    rounds=st.lists(st.builds(Round, FINITE, FINITE, FINITE, FINITE, FINITE), max_size=3),
    seconds=FINITE,
)


@given(st.one_of(results, learned, selected))
def test_every_stage_is_read_back_from_its_json(value: Any) -> None:
    text = json.dumps(to_plain(value))
    back = from_plain(type(value), json.loads(text))
    assert json.dumps(to_plain(back)) == text
    assert type(back) is type(value)


def plain_result() -> dict[str, Any]:
    latency = Latency(1.0, 2.0, 0.5)
    model = ModelFigures(0.9, latency, 10, 20, 30)
    return dict(
        to_plain(PruneResult(Path("r"), "executorch", "fp32", "local", BudgetFigures(2, 1, 0.5, True), model, model))
    )


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["dense", "macs"], 1.5, "PruneResult.dense.macs must be a whole number, not 1.5."),
        (["dense", "macs"], True, "PruneResult.dense.macs must be a whole number, not True."),
        (["dense", "accuracy"], "0.9", "PruneResult.dense.accuracy must be a number, not '0.9'."),
        (["dense", "latency_ms", "kind"], "guessed", "must be one of 'measured', 'virtual' or 'estimated'"),
        (["budget", "met"], 1, "PruneResult.budget.met must be true or false, not 1."),
        (["shipped"], [], "PruneResult.shipped must be a table, not []."),
        (["shipped", "speed"], 3, "PruneResult.shipped.speed is not known here."),
        (["run"], 7, "PruneResult.run must be a path, not 7."),
    ],
)
def test_a_wrong_value_is_named_by_its_place(place: list[str], value: Any, message: str) -> None:
    data = plain_result()
    inner = data
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(InputError) as error:
        from_plain(PruneResult, data)
    assert error.value.hint and message in error.value.message


TIMED = to_plain(Measured(Latency(2.0, 3.0, 1.0), Latency(1.0, 2.0, 0.5), 0.5, 1.2, [2.0, 2.1], [1.0, 1.1]))
CHOSEN = to_plain(Selected([[0, 1], [2]], [[0], [1, 4]], 1.0, [], [], 1.0))
LEARNED = to_plain(Learned([[0.1]], [[0.2]], [1.0], [1.0], 1.0, 1, []))


@pytest.mark.parametrize(
    ("cls", "sound", "field", "wrong"),
    [
        (Measured, TIMED, "rounds_dense", [2.0, 2.1, 2.1]),
        (Measured, TIMED, "rounds_shipped", []),
        (Measured, TIMED, "rounds_shipped", [1.0, 0.0]),
        (Measured, TIMED, "rounds_dense", [1.0, math.nan]),
        (Measured, TIMED, "ratio", math.inf),
        (Selected, CHOSEN, "kept_heads", [[0, 1], [0, 1], [2]]),
        (Selected, CHOSEN, "kept_heads", []),
        (Selected, CHOSEN, "kept_hidden", [[0, 0], [1, 4]]),
        (Selected, CHOSEN, "kept_hidden", [[-1], [1, 4]]),
        (Selected, CHOSEN, "head_dims", [8]),
        (Learned, LEARNED, "keep_heads", [1.0, 1.0]),
        (Verified, {}, "parity", []),
        (Importance, {"order": [1, 0], "cost": [0.0, 1.0, 2.0]}, "order", [1, 1]),
        (Importance, {"order": [1, 0], "cost": [0.0, 1.0, 2.0]}, "cost", [0.0, 1.0]),
    ],
)
def test_a_record_whose_parts_do_not_fit_is_refused(cls: Any, sound: dict[str, Any], field: str, wrong: Any) -> None:
    if sound:
        from_plain(cls, sound, "stages/x.json")
    with pytest.raises(InputError, match=r"stages/x\.json: The record is damaged"):
        from_plain(cls, {**sound, field: wrong}, "stages/x.json")


def test_a_missing_field_is_named() -> None:
    data = plain_result()
    del data["budget"]["ratio"]
    with pytest.raises(InputError, match=r"PruneResult\.budget\.ratio is missing"):
        from_plain(PruneResult, data)


def test_another_version_of_a_format_is_named() -> None:
    with pytest.raises(InputError, match=r"x\.json has version 99 of its format, and this release reads version 1"):
        from_plain(Structure, {"version": 99, "embed_dim": 1, "blocks": []}, "x.json")
    with pytest.raises(InputError, match=r"list\[0\] must be a table"):
        from_plain(list[Structure], [3])


def test_tuple_length_and_keys_are_checked() -> None:
    with pytest.raises(InputError, match="a list of 2"):
        from_plain(tuple[int, int], [1, 2, 3])
    with pytest.raises(InputError, match="a whole number"):
        from_plain(dict[int, float], {"six": 1.0})


@pytest.mark.parametrize("value", ["1", True, 10**400, None, [], "nan"])
def test_nothing_but_a_number_passes_for_one(value: Any) -> None:
    with pytest.raises(InputError, match=r"list\[0\] (must be a number|is missing)"):
        from_plain(list[float], [value])


def test_names_of_files_that_are_no_unicode_are_read_back() -> None:
    data = {"p50": 1.0, "p90": 1.0, "min": 1.0, "caveat": "\udcff"}
    assert from_plain(Latency, data).caveat == "\udcff"
    assert from_plain(dict[str, Path], {"\udcff": "\udcff/x"}) == {"\udcff": Path("\udcff/x")}


def test_a_recipe_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"Recipe\.prune\.threads must be at least 1, not 0"):
        from_plain(Recipe, to_plain(Recipe(prune=PruneRecipe(threads=0))))


def test_read_as_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    write_json(path, Latency(1.0, 2.0, 0.5, Kind.VIRTUAL))
    assert read_as(path, Latency) == Latency(1.0, 2.0, 0.5, Kind.VIRTUAL)
    path.write_text('{"p50": 1}')
    with pytest.raises(InputError, match=r"latency\.json\.p90 is missing"):
        read_as(path, Latency)
    with pytest.raises(InputError, match="does not exist"):
        read_as(tmp_path / "none.json", Latency)

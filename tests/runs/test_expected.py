"""How long a run is thought to take."""

from __future__ import annotations

import contextvars
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge import progress
from wdp_edge.io.files import write_text
from wdp_edge.runs.expected import Expected, Habits, Pace, Work, habits_file, read_habits, write_habits

WORKS = {
    "look": Work(images=10),
    "dense file": Work(exports=1),
    "table": Work(exports=5, seconds=20),
    "refit": Work(images=100),
}


def test_the_pace_of_what_is_done_is_that_of_what_follows() -> None:
    course = Expected(WORKS, Pace(image=1.0, export=10.0))
    assert course.seconds("refit") == 100 and course.seconds("table") == 70
    course.done("look", 5.0)  # twice as fast
    course.done("dense file", 40.0)  # four times as slow
    assert course.seconds("refit") == 50 and course.seconds("table") == 220
    assert course.at("table", 0.0).left == 270 and course.at("table", 100.0).left == 170
    assert course.at("table", 45.0).share == pytest.approx((5 + 40 + 45) / (45 + 270))
    assert (course.at("table").number, course.at("table").count) == (3, 4)


def test_a_stage_of_both_kinds_sets_no_pace() -> None:
    course = Expected({"both": Work(images=10, exports=1), "refit": Work(images=10)}, Pace(1.0, 10.0))
    course.done("both", 1000.0)
    assert course.seconds("refit") == 10


def test_a_stage_beyond_its_time_is_not_at_its_end_for_ever() -> None:
    course = Expected(WORKS, Pace(1.0, 10.0))
    assert course.at("refit", 100.0).left == pytest.approx(10.0)
    assert course.at("refit", 1000.0).left == pytest.approx(100.0)


def test_a_stage_that_nobody_foresaw_has_a_place() -> None:
    course = Expected(WORKS, Pace(1.0, 10.0))
    for stage in WORKS:
        course.done(stage, 1.0)
    place = course.at("another cut", 3.0)
    assert place.number == place.count == 5 and place.left == pytest.approx(0.3)


def test_stages_of_before_the_run_was_killed_set_no_pace_where_their_time_is_not_known() -> None:
    course = Expected(WORKS, Pace(1.0, 10.0))
    course.done("look", 0.0)
    assert course.seconds("refit") == 100 and course.at("dense file").number == 2


def test_the_next_run_expects_what_this_one_took() -> None:
    first = Expected(WORKS, Pace(1.0, 10.0))
    for stage, seconds in {"look": 10.0, "dense file": 10.0, "table": 210.0, "refit": 100.0}.items():
        first.done(stage, seconds)
    second = Expected(WORKS, Pace(1.0, 10.0), first.learned())
    assert second.seconds("table") == pytest.approx(210.0) and second.seconds("look") == pytest.approx(10.0)
    second.done("table", 70.0)
    assert second.learned().stages["table"] == pytest.approx(3**0.5), "neither the one nor the other"


def test_a_table_from_the_cache_teaches_nothing() -> None:
    course = Expected(WORKS, Pace(1.0, 10.0), Habits({"table": 2.0}))
    course.done("table", 0.1)
    assert course.learned().stages == {"table": 2.0}


@given(
    st.dictionaries(st.sampled_from(list(WORKS)), st.floats(0, 1e6)), st.sampled_from(list(WORKS)), st.floats(0, 1e6)
)
def test_shares_are_shares_and_habits_can_be_kept(taken: dict[str, float], stage: str, inside: float) -> None:
    course = Expected(WORKS, Pace(1.0, 10.0), taken=taken)
    place = course.at(stage, inside)
    assert 0 <= place.share <= 1 and place.left >= 0
    course.learned()


def test_habits_are_kept_and_a_damaged_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    assert read_habits() == Habits({})
    write_habits(Habits({"table": 2.0}))
    assert read_habits() == Habits({"table": 2.0})
    write_text(habits_file(), '{"version": 1, "stages": {"table": -1}}')
    assert read_habits() == Habits({})


def test_a_cache_that_cannot_be_written_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        progress.use(progress.Bars())
        write_habits(Habits({"table": 2.0}))

    write_text(tmp_path / "file", "")
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "file"))
    contextvars.copy_context().run(work)
    assert "Times of this run are not kept" in capsys.readouterr().err

"""wdp_edge/config/budgets.py: one budget of three kinds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.config.budgets import budget_label, budget_of, budget_setting, budget_texts, budget_word, with_budget
from wdp_edge.config.recipe import PruneRecipe
from wdp_edge.config.values import CountBudget, LatencyBudget, Quantity, parse_keep, parse_keeps, parse_macs
from wdp_edge.errors import InputError


@pytest.mark.parametrize(
    ("text", "share", "count"),
    [
        ("50%", 0.5, None),
        (" 70 % ", 0.7, None),
        ("100%", 1.0, None),
        ("1.2G", None, 1_200_000_000),
        ("300M", None, 300_000_000),
        ("5k", None, 5000),
        ("4096", None, 4096),
        ("4.6 GMACs", None, 4_600_000_000),
        ("300m", None, 300_000_000),
    ],
)
def test_macs_are_a_share_or_a_number(text: str, share: float | None, count: int | None) -> None:
    assert parse_macs(text) == CountBudget(Quantity.MACS, count, share)


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-3G", "20ms", "1.2 GFLOPs", "half", "0.5", "50"])
def test_what_is_no_number_of_macs_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"50%.*1\.2G|multiply-accumulates"):
        parse_macs(text)


@pytest.mark.parametrize(("text", "share"), [("0.7", 0.7), ("70%", 0.7), ("1", 1.0), ("100%", 1.0), (".5", 0.5)])
def test_what_stays_of_parameters_is_a_share(text: str, share: float) -> None:
    assert parse_keep(text) == CountBudget(Quantity.PARAMETERS, share=pytest.approx(share))


@pytest.mark.parametrize("text", ["", "0", "1.1", "70", "110%", "-0.5", "5M"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="share of the parameters"):
        parse_keep(text)


def test_one_may_not_be_there_twice() -> None:
    with pytest.raises(InputError, match="names a share of the parameters twice"):
        parse_keeps("0.5,50%")


@given(share=st.floats(0.001, 1.0), dense=st.integers(1000, 10**12))
def test_the_limit_is_a_whole_number_within_the_share(share: float, dense: int) -> None:
    limit = CountBudget(Quantity.MACS, share=share).limit(dense)
    assert limit <= share * dense + 1e-5 and limit > share * dense - 1
    assert CountBudget(Quantity.PARAMETERS, share=1e-9).limit(1000) == 1, "something to divide by"


def test_the_kind_that_is_given_is_the_budget() -> None:
    of_time, of_macs, kept = (PruneRecipe(**one) for one in ({"latency_budget": "20ms"}, {"macs_budget": "50%"}, {}))
    assert budget_of(of_time) == LatencyBudget(milliseconds=20.0)
    assert budget_of(of_macs) == CountBudget(Quantity.MACS, share=0.5)
    assert budget_setting(kept) == "latency_budget", "there is none, and this one is asked for"
    assert [budget_label(r) for r in (of_time, of_macs)] == ["20ms", "50% of MACs"]
    assert [budget_word(r) for r in (of_time, of_macs)] == ["20ms", "macs-50pct"]


def test_a_list_becomes_single_budgets_of_its_kind() -> None:
    several = PruneRecipe(keep="0.5, 0.7")
    assert budget_texts(several) == ["0.5", "0.7"]
    one = with_budget(several, "0.7")
    assert (one.keep, one.macs_budget, one.latency_budget) == ("0.7", "", "")
    assert budget_label(one) == "0.7 of parameters" and budget_word(one) == "keep-0.7"
    assert not any((with_budget(several, "").keep, with_budget(several, "").latency_budget))


def test_two_kinds_at_once_are_refused_by_name() -> None:
    both = PruneRecipe(latency_budget="50%", keep="0.7")
    with pytest.raises(InputError, match=r'latency_budget = "50%" and keep = "0.7"'):
        budget_of(both)

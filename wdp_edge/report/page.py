"""The report's page: figures of a run put into words, tables and pictures."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined

from wdp_edge.protocols.task import facts_of
from wdp_edge.report import budgets, drops, units
from wdp_edge.report.cautions import cautions, two_times
from wdp_edge.report.parts import outside, part_rows
from wdp_edge.report.pictures import pictures
from wdp_edge.report.record import Record, Widths
from wdp_edge.runs.look import BY_HEART
from wdp_edge.runs.results import PruneResult


@dataclass(frozen=True)
class Row:
    """A line of the before/after table. better: whether the difference is a gain; None when it is neither."""

    name: str
    dense: str
    shipped: str
    difference: str
    better: bool | None = None


def render(record: Record) -> str:
    """The page: the same text for the same record."""
    environment = Environment(
        loader=PackageLoader("wdp_edge.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ms=units.milliseconds,
        share=units.share,
        quantity=units.quantity,
        duration=units.duration,
        moment=units.moment,
        outside=outside,
        joined=units.joined,
        significant=units.significant,
        error=units.error,
        whole=units.whole,
        kept_words=kept_words,
        allowed=budgets.allowed,
        amount=lambda value: budgets.amount(value, record.table),
        change=lambda after, before: units.change(before, after),
    )
    return environment.get_template("report.html.j2").render(
        record=record,
        verdict=verdict(record),
        cautions=notes(record.result),
        rows=rows(record.result),
        pictures=pictures(record),
        drops=record.result.drops,
        drop_words=drops,
        operator_tables=part_rows(record.operators) if record.operators else [],
        facts=facts_of(record.result.task),
        by_heart=by_heart(record.result),
        command=[shlex.quote(word) for word in record.manifest.command],
    )


def notes(result: PruneResult) -> list[str]:
    """What to know when reading the figures of a run."""
    why = two_times(result.budget, result.shipped.latency_ms)
    note = facts_of(result.task).note
    said = ([note] if note else []) + cautions(result.shipped.latency_ms) + ([why] if why else [])
    if result.first_look:
        said.append(f"First look at the {result.first_look.line}.")
    return said + [f"Warning: {text}" for text in result.warnings]


def by_heart(result: PruneResult) -> str:
    """What to know of estimates on training images that the dense model may have memorised; "" where it has not."""
    look, known = result.first_look, result.dense.accuracy
    if look is None or not look.memorised:
        return ""
    if known is None:
        return BY_HEART
    images = f"{units.share(look.value)} of training images and {units.share(known)} of validation images"
    return f"{BY_HEART} Its {result.metric} is {images}."


def verdict(record: Record) -> str:
    """What is taken of the budget, accuracy before and after, and the speed-up, in one line."""
    result, budget = record.result, record.result.budget
    how = budgets.how(budget, result.shipped.latency_ms.kind)
    spent = f"{budgets.taken(budget)} {how}, {budgets.allowed(budget)} allowed"
    faster = f"{units.significant(speedup(record))}× as fast as the dense model"
    return f"{spent} ({units.share(budget.ratio, 1)} of the budget); {_accuracy_words(result)}; {faster}"


def _accuracy_words(result: PruneResult) -> str:
    before, after = result.dense.accuracy, result.shipped.accuracy
    if before is None or after is None:
        return f"{result.metric} not measured"
    return f"{result.metric} {units.share(before)} → {units.share(after)} ({units.points(before, after)})"


def speedup(record: Record) -> float:
    """How many times as fast as the dense file: from interleaved rounds, or the p50s without them."""
    if record.measured is not None:
        return 1 / record.measured.ratio
    return record.result.dense.latency_ms.p50 / record.result.shipped.latency_ms.p50


def kept_words(widths: Widths) -> str:
    """What is left, in a sentence."""
    blocks = widths.dense.blocks
    heads, hidden = sum(b.heads for b in blocks), sum(b.hidden for b in blocks)
    channels = [n for n in widths.head_dims if n]
    narrow = f"Heads have {min(channels)} to {max(channels)} of {blocks[0].head_dim} channels. " if channels else ""
    return (
        f"{widths.exit} of {len(blocks)} blocks, {sum(widths.heads)} of {heads} heads and "
        f"{units.whole(sum(widths.hidden))} of {units.whole(hidden)} hidden units are kept. "
        f"{narrow}Blocks after the exit are dropped; the norm and the head follow the exit."
    )


def rows(result: PruneResult) -> list[Row]:
    """The before/after table."""
    dense, shipped = result.dense, result.shipped
    before, after = dense.latency_ms, shipped.latency_ms
    known = dense.accuracy is not None and shipped.accuracy is not None
    facts = facts_of(result.task)
    alike = f"{facts.agreement.capitalize()} as dense"
    return [
        Row(
            facts.title,
            units.share(dense.accuracy),
            units.share(shipped.accuracy),
            units.points(dense.accuracy, shipped.accuracy),
            (shipped.accuracy or 0) >= (dense.accuracy or 0) if known else None,
        ),
        *(_more(name, (dense.also or {}).get(name), value) for name, value in (shipped.also or {}).items()),
        _less(f"Latency p50, {after.kind}", before.p50, after.p50, units.milliseconds),
        _less(f"Latency p90, {after.kind}", before.p90, after.p90, units.milliseconds),
        _less("MACs per image", dense.macs, shipped.macs, units.quantity),
        _less("Parameters", dense.parameters, shipped.parameters, units.quantity),
        _less("File size", dense.bytes, shipped.bytes, partial(units.quantity, unit="B")),
        Row("Blocks kept (exit)", _count(dense.exit), _count(shipped.exit), _fewer(dense.exit, shipped.exit)),
        *([] if facts.of_answers else [Row(alike, units.share(dense.agreement), units.share(shipped.agreement), "")]),
    ]


def _more(name: str, before: float | None, after: float) -> Row:
    """A line for a share that should become more."""
    better = None if before is None else after >= before
    return Row(name, units.share(before), units.share(after), units.points(before, after), better)


def _less(name: str, before: float, after: float, write: Callable[[float], str]) -> Row:
    """A line for something that should become less."""
    return Row(name, write(before), write(after), units.change(before, after), after <= before)


def _count(value: int | None) -> str:
    return units.NONE if value is None else str(value)


def _fewer(before: int | None, after: int | None) -> str:
    return "" if before is None or after is None else units.signed(after - before, ".0f")

"""Results as people read them: small tables with units, and one line on the budget."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.errors import printable
from wdp_edge.protocols.task import facts_of
from wdp_edge.runs.look import BY_HEART

if TYPE_CHECKING:
    from wdp_edge.commands.doctor import DoctorResult
    from wdp_edge.commands.models import KnownModels, ModelDescription
    from wdp_edge.cost.table import LatencyTable
    from wdp_edge.runs.results import (
        ArtifactFigures,
        CheckResult,
        EvaluateResult,
        ExportResult,
        InspectResult,
        OperatorProfiles,
        ProcessorProof,
        ProfileResult,
        PruneResult,
        ReportResult,
        SetupResult,
        TriedFigures,
        UnjudgedFile,
        VerifyResult,
    )

_COLUMNS = {"accuracy": "right", "agreement": "as dense"}


def show_prune(result: PruneResult) -> None:
    from wdp_edge.report.budgets import budget_line
    from wdp_edge.report.cautions import cautions, two_times
    from wdp_edge.report.drops import summary

    rows = _comparison(result)
    kind = result.shipped.latency_ms.kind
    title = f"{result.precision} {result.target} file, latency {kind} on {result.device}"
    print_table(title, ("", "dense", "shipped", "change"), rows)
    for line in summary(result.drops) if result.drops else ["What each class loses is not recorded in this run."]:
        print_line(line)
    if note := facts_of(result.task).note:
        print_line(note)
    print_line(budget_line(result.budget))
    if not result.pruned:
        print_line("The dense file was inside the budget as it is and ships; --force prunes it all the same.")
    if note := two_times(result.budget, result.shipped.latency_ms):
        print_line(note)
    for line in cautions(result.shipped.latency_ms):
        print_line(line)
    if not result.verified:
        print_line("The file is too far from the pruned model; `wdp-edge verify` finds the layer.")
    if result.shipped.path:
        print_line(f"Shipped file: {near(result.shipped.path)}")
    print_line(f"Run folder: {near(result.run)} (`wdp-edge report` makes a page of it)")


def show_export(result: ExportResult) -> None:
    images = "held-back training images" if result.held_back else "training images"
    _artifacts(f"Files, held against the model on {images}", result.artifacts, result.metric, result.unjudged)
    if result.tried is not None:
        _tried(result.tried, result.metric)
    _memorised(result.memorised)
    paths = [a.path for a in result.artifacts] + [u.path for u in result.unjudged if u.path]
    for path in paths:
        print_line(f"File: {near(path)}")


def _tried(tried: Sequence[TriedFigures], metric: str) -> None:
    from wdp_edge.report.units import milliseconds, quantity, share

    rows = [
        (
            t.precision,
            str(len(t.kept_float)),
            share(t.accuracy),
            f"{t.drop:+.2f}",
            milliseconds(t.latency_ms),
            quantity(t.bytes, "B"),
            "allowed" if t.allowed else "too much",
        )
        for t in tried
    ]
    print_table("Tried", ("precision", "in float", metric, "points lost", "latency", "size", ""), rows)


def show_verify(result: VerifyResult) -> None:
    from wdp_edge.report.units import share

    metric, facts = result.metric, facts_of(result.task)
    images = f"{result.images} {'held-back ' * result.held_back}training images"
    dense = "" if facts.of_answers else f"; dense model: {share(result.dense_accuracy)} {metric}"
    print_line(f"{images}{dense}.")
    if result.shrunk is not None:
        own = "" if facts.of_answers else f"{share(result.shrunk_accuracy)} {metric}, "
        print_line(f"Pruned model: {own}{share(result.shrunk.agreement)} {facts.agreement} as the dense model.")
    title = "Files, held against the pruned model" if result.shrunk else "Files"
    _artifacts(title, result.artifacts, result.metric, result.unjudged)
    _memorised(result.memorised)


def _memorised(is_so: bool) -> None:
    if is_so:
        print_line(f"{BY_HEART} `wdp-edge evaluate FILE` tells how it does on validation images.")


def _artifacts(
    title: str, artifacts: Sequence[ArtifactFigures], metric: str, unjudged: Sequence[UnjudgedFile] = ()
) -> None:
    """agree: share of images (or patches) that file and model treat alike. cosine: of outputs without their mean,
    smallest over the images.

    metric: name of the task's; its column is "right" for accuracy, "as dense" for agreement. ok: as close as the
    recipe's [verify] asks.
    """
    from wdp_edge.report.cautions import cautions
    from wdp_edge.report.units import NONE, milliseconds, quantity, share

    columns = {
        "target": [a.target for a in artifacts],
        "precision": [a.precision for a in artifacts],
        "agree": [share(a.parity.agreement, 1) for a in artifacts],
        "cosine": [f"{a.parity.cosine_centred:.4f}" for a in artifacts],
        _COLUMNS.get(metric, metric): [share(a.accuracy, 1) for a in artifacts],
        "size": [quantity(a.bytes, "B") for a in artifacts],
        "p50": [milliseconds(a.latency_ms.p50) if a.latency_ms else NONE for a in artifacts],
        "ok": ["yes" if a.verified else "NO" for a in artifacts],
    }
    if not any(a.latency_ms for a in artifacts):
        del columns["p50"]
    rows = list(zip(*columns.values(), strict=True))
    rows += [(u.target, u.precision, *[NONE] * (len(columns) - 3), u.state) for u in unjudged]
    print_table(title, list(columns), rows)
    for line in dict.fromkeys(line for a in artifacts if a.latency_ms for line in cautions(a.latency_ms)):
        print_line(line)
    _unjudged(unjudged)
    for a in artifacts:
        _proven(a.path, a.proven_on)
        if a.broke_at:
            print_line(f"{near(a.path)} goes wrong at {a.broke_at}: its output is the first that is too far off.")


def _unjudged(files: Sequence[UnjudgedFile]) -> None:
    for file in files:
        print_line(f"{file.target} {file.precision} is {file.state}: {file.reason} {file.hint}")


def _proven(path: Path, proofs: Sequence[ProcessorProof]) -> None:
    """One line for each kind of processor."""
    for proof in proofs:
        by = f" ({proof.emulator})" if proof.emulator else ""
        words = "is proven on" if proof.verified else "is NOT close enough to its model on"
        apart = ""
        if proof.difference is not None:
            apart = f", outputs differ from those here by at most {proof.difference:.1e} of the largest"
        print_line(f"{near(path)} {words} {proof.processor}{by}: {proof.images} images{apart}")


def show_inspect(result: InspectResult) -> None:
    """Inputs and outputs, operators by kind, weights by type, and where the file came from."""
    from wdp_edge.report.units import quantity

    contents = result.contents
    print_line(f"{near(result.path)}: {result.target}, {quantity(result.bytes, 'B')}, {contents.delegates} delegates")
    tensors = [("input", t) for t in contents.inputs] + [("output", t) for t in contents.outputs]
    for what, tensor in tensors:
        print_line(f"{what}: {tensor.name} {'x'.join(map(str, tensor.shape))} {tensor.dtype}")
    rows = [(o.kind, str(o.count), str(o.delegated)) for o in contents.operators]
    print_table("", ("operator", "count", "in a delegate"), rows)
    for note in contents.notes:
        print_line(f"{note[0].upper()}{note[1:].rstrip('.')}.")
    weights = [(w.dtype, str(w.tensors), quantity(w.bytes, "B")) for w in contents.weights]
    print_table("", ("weights", "tensors", "size"), weights)
    _proven(result.path, result.proven_on)
    if about := result.about:
        print_line(f"model: {about['model']}, structure {about['structure']['digest']}, recipe {about['recipe']}")
        output = f"classes: {len(about['classes'])}" if about["classes"] else f"output: {about['output']}"
        print_line(f"{output}, normalization: {about['input']['normalization']}")


def show_profile(result: ProfileResult) -> None:
    """Latency beside the dense file's, the budget, and where the time goes if that was asked."""
    from wdp_edge.report.budgets import budget_line
    from wdp_edge.report.cautions import cautions, device_rows
    from wdp_edge.report.units import milliseconds, quantity, share

    times = [result.latency_ms] + ([result.dense_latency_ms] if result.dense_latency_ms else [])
    rows = [
        ("latency p50", *(milliseconds(t.p50) for t in times)),
        ("latency p90", *(milliseconds(t.p90) for t in times)),
        ("fastest", *(milliseconds(t.min) for t in times)),
        ("file size", quantity(result.bytes, "B")),
        *([("peak memory", quantity(result.peak_memory, "B"))] if result.peak_memory else []),
        *device_rows(result.latency_ms.conditions),
    ]
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    title = f"{near(result.path)}: {result.latency_ms.kind} on {result.device}, {threads}"
    print_table(title, ("", "file", "dense")[: len(times) + 1], rows)
    if result.ratio is not None:
        print_line(f"{share(result.ratio, 1)} of the dense file's latency, timed in turn.")
    for line in cautions(result.latency_ms):
        print_line(line)
    if result.operators is not None:
        _operators(result.operators)
    if result.budget is not None:
        print_line(budget_line(result.budget))


def _operators(profiles: OperatorProfiles) -> None:
    from wdp_edge.report.parts import outside, part_rows

    for title, head, rows in part_rows(profiles):
        print_table(title, head, rows)
    print_line(outside(profiles.file))


def show_evaluate(result: EvaluateResult) -> None:
    from wdp_edge.report.units import share

    figures = {result.metric: result.accuracy, **(result.also or {})}
    words = ", ".join(f"{name} {share(value)}" for name, value in figures.items()) + f" on {result.images} images"
    if result.metric == "accuracy":
        words = f"{share(result.accuracy)} of {result.images} images right"
    print_line(f"{near(result.path)}: {words}, through the runtime of {result.target}.")


def show_doctor(result: DoctorResult) -> None:
    checks = [*result.toolkits, *result.compilers, *result.devices]
    for title, group in (("Toolkits", result.toolkits), ("Compilers", result.compilers), ("Devices", result.devices)):
        print_table(title, ("", "", ""), [(c.name, c.use, c.found or "missing") for c in group], words=True)
    for check in checks:
        if not check.found and (advice := check.install or check.problem):
            print_line(f"{check.name}: {advice}")
    missing = len(result.missing)
    print_line(f"{missing} of {len(checks)} are missing." if missing else "All is there.")


def show_known_models(result: KnownModels) -> None:
    rows = [(f.name, f.models, str(len(f.names)), ", ".join(f.dimensions)) for f in result.families]
    print_table(f"Families of timm {result.timm}", ("class", "names", "models", "can be cut"), rows, words=True)
    print_line("`wdp-edge models NAME` shows one of them; --json lists all names.")


def show_model(result: ModelDescription) -> None:
    """Dimensions, and what the dense model costs."""
    from wdp_edge.report.units import quantity

    height, width = result.size
    print_line(f"{result.model}: {result.family}, {height} x {width} pixels, {result.tokens} tokens")
    rows = [(d.name, runs(d.widths), f"stays: {d.fixed}" if d.fixed else "can be cut") for d in result.dimensions]
    print_table("", ("dimension", "widths", ""), rows, words=True)
    print_line(f"{quantity(result.parameters, '')} parameters and {quantity(result.macs, '')} MACs, not pruned.")


def runs(widths: Sequence[int]) -> str:
    """Equal neighbours together: 3, 3, 6 -> 2 x 3, 6."""
    counted = [(width, len(list(same))) for width, same in groupby(widths)]
    return ", ".join(f"{count} x {width}" if count > 1 else str(width) for width, count in counted)


def show_setup(result: SetupResult) -> None:
    print_line(f"{len(result.steps)} things were missing and are there now." if result.steps else "All is there.")
    gpu = "Next: wdp-edge export --target tflite --unit gpu"
    print_line(gpu if result.name == "gpu" else f"Devices {result.name}:… are ready.")


def show_report(result: ReportResult) -> None:
    print_line(f"Report: {near(result.path)}")


def show_table(table: LatencyTable) -> None:
    """One sub-layer of each kind by its width."""
    from wdp_edge.report.units import milliseconds, share

    def row(part: str, width: str, ms: float) -> tuple[str, str, str, str]:
        return part, width, milliseconds(ms), share(ms / table.dense_ms, 1)

    rows = [row("attention", f"{heads:g} heads", ms) for heads, ms in table.attention]
    rows += [row("MLP", f"{hidden:g} units", ms) for hidden, ms in table.mlp]
    if table.last:
        heads, hidden = table.attention[-1][0], table.mlp[-1][0]
        rows.append(row("last attention", f"{heads:g} heads", table.last[0] * heads))
        rows.append(row("MLP after it", f"{hidden:g} units", table.last[1] * hidden))
    rows += [row("outside the blocks", "", table.fixed_ms), row("dense model", "", table.dense_ms)]
    key = table.key
    threads = f"{key.threads} thread{'s' if key.threads > 1 else ''}"
    title = f"{key.precision} {key.target} file, {table.kind}, {threads}, on {key.device}"
    print_table(title, ("one sub-layer", "width", "latency", "of dense"), rows)


def show_check(result: CheckResult) -> None:
    """Every limit of every budget."""
    from wdp_edge.report.cautions import slowed_down
    from wdp_edge.report.units import against

    rows = []
    for budget in result.budgets:
        where = f"{budget.target} {budget.precision}, {budget.device}"
        for limit in budget.limits:
            kind = limit.kind if limit.unit == "ms" else ""
            name = f"{result.metric} drop" if limit.name == "accuracy_drop" else limit.name.replace("_", " ")
            rows.append((where, name, against(limit), kind, kept(limit.met)))
        rows.append((where, "close to its model", "", "", kept(budget.verified)))
    rows += [(f"{u.target} {u.precision}", "", "", "", u.state) for u in result.unjudged]
    print_table("Budgets", ("file", "limit", "measured", "", ""), rows)
    for budget in result.budgets:
        if budget.path.parent.parent != result.run:  # of one run among several
            print_line(f"{budget.target} {budget.precision}, {budget.device}: {near(budget.path)}")
        for limit in budget.limits:
            if slow := slowed_down(limit.conditions):
                print_line(f"{near(budget.path)}, {budget.device}: {slow}")
            if limit.note:
                print_line(f"{near(budget.path)}, {limit.name.replace('_', ' ')}: {limit.note}.")
    _unjudged(result.unjudged)
    missed, total = sum(not budget.met for budget in result.budgets), len(result.budgets)
    if result.unjudged:
        print_line(f"Of the budgets that could be judged, {missed} of {total} are missed.")
    else:
        print_line(f"{missed} of {total} budgets are missed." if missed else f"All {total} budgets are kept.")


def kept(met: bool) -> str:
    return "kept" if met else "MISSED"


def _comparison(result: PruneResult) -> list[tuple[str, str, str, str]]:
    from wdp_edge.report.units import NONE, change, milliseconds, points, quantity, share

    dense, shipped = result.dense, result.shipped
    figures = {result.metric: (dense.accuracy, shipped.accuracy)}
    figures |= {name: ((dense.also or {}).get(name), value) for name, value in (shipped.also or {}).items()}
    rows = [(name, share(before), share(after), points(before, after)) for name, (before, after) in figures.items()]
    for name, before, after in (
        ("latency p50", dense.latency_ms.p50, shipped.latency_ms.p50),
        ("latency p90", dense.latency_ms.p90, shipped.latency_ms.p90),
    ):
        rows.append((name, milliseconds(before), milliseconds(after), change(before, after)))
    for name, unit, old, new in (
        ("MACs", "", dense.macs, shipped.macs),
        ("parameters", "", dense.parameters, shipped.parameters),
        ("file size", "B", dense.bytes, shipped.bytes),
    ):
        rows.append((name, quantity(old, unit), quantity(new, unit), change(old, new)))
    if dense.exit and shipped.exit:
        rows.append(("blocks", str(dense.exit), str(shipped.exit), change(dense.exit, shipped.exit)))
    facts = facts_of(result.task)
    if shipped.agreement is not None and not facts.of_answers:
        rows.append((facts.agreement, NONE, share(shipped.agreement), ""))
    return rows


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], words: bool = False) -> None:
    """The first column is a label; the others stand to the right, as figures do, unless they are words."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    print_line(title)
    table = Table(box=None, show_header=any(header), pad_edge=False)
    for index, head in enumerate(header):
        right = index > 0 and len(header) > 2 and not words
        table.add_column(Text(printable(head)), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)


def print_line(text: str) -> None:
    print(printable(text, lines=True), flush=True)


def near(path: Path) -> str:
    """The path as seen from here when it lies below, fit to be printed."""
    here = Path.cwd()
    return printable(str(path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path))

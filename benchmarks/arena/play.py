"""Runs a method in a setting: its structure once, then every variant of it that is asked for."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from arena import tune as tuning
from arena.cells import Cell, Key, Store
from arena.fit import OutOfReach
from arena.methods import CONTROL, CUT_STREAM, DENSE, OURS, control, propose
from arena.setting import Proposal, Setting
from arena.tune import Choice, chosen, tune
from wdp_edge import progress
from wdp_edge.config.recipe import PruneRecipe
from wdp_edge.io.plain import read_as
from wdp_edge.models.files import load, read_spec
from wdp_edge.models.structure import count
from wdp_edge.models.surgery import cut
from wdp_edge.models.vit import geometry_of, structure_of
from wdp_edge.protocols.device import Device, ratio
from wdp_edge.pruning.choose import kept_of, steps_of
from wdp_edge.pruning.prune import prune
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.stages import Selected
from wdp_edge.shrink.compensation import compensate

Changes = tuple[tuple[str, Any], ...]
# Ours without one part.
ABLATIONS: dict[str, Changes] = {
    "ours, widths not learned": (("learn.share", 0.0),),
    "ours, heads of full width": (("select.narrow_heads", False),),
    "ours, no tilt": (("select.tilt", 0.0),),
    "ours, no exits": (("learn.exits", 0),),
    "ours, no block outputs in recovery": (("recover.features", 0.0),),
    "ours, labels only in recovery": (("recover.features", 0.0), ("recover.distillation", 0.0)),
}


def of_training(changes: Changes) -> bool:
    """Whether the changes only matter where something is trained."""
    return all(name.startswith("recover.") or name == "learn.share" for name, _ in changes)


NO_COMPENSATION = "ours, no compensation before recovery"


def ours_with(setting: Setting, store: Store, key: Key, changes: Changes = ()) -> Cell:
    """The product itself, as a user would run it; what it looks at for compensation comes off the images.

    changes: settings of [prune] that differ, as "section.name", after those that were chosen for it.
    """
    choice = chosen(store.folder, OURS, setting.origin)
    changes = ((("recover.lr", choice.lr), ("recover.features", choice.features)) if choice else ()) + changes
    began = time.monotonic()
    looked_at = len(setting.refit_images)
    own = setting.at(key.share).prune
    own = replace(own, images=max(0, key.images - looked_at), out=str((store.folder / "runs" / key.name).resolve()))
    for name, value in changes:
        own = changed(own, name, value)
    result: PruneResult = prune(replace(setting.recipe, prune=own))
    assert result.shipped.accuracy is not None and result.shipped.path is not None
    steps = steps_of(own, len(setting.data.train_indices))
    return Cell(
        **key.__dict__,
        accuracy=result.shipped.accuracy,
        made=result.budget.ratio * key.share,
        macs=result.shipped.macs,
        parameters=result.shipped.parameters,
        seconds=time.monotonic() - began,
        path=result.shipped.path,
        structure=read_spec(result.run / "model")[1].to_json(),
        origin=setting.origin,
        steps=steps.learn + steps.recover,
        lr=own.recover.lr if steps.recover else 0.0,
        features=own.recover.features if steps.recover else 0.0,
    )


def tuned(setting: Setting, store: Store, method: str) -> Choice | None:
    """The method's rate and weight of block outputs, chosen where they are not yet; None where it cannot reach the
    share at which that is done."""
    if found := chosen(store.folder, method, setting.origin):
        return found
    progress.say(f"== {method}: choosing a learning rate and a weight of block outputs")
    try:
        proposal = proposal_to_tune(setting, store, method)
    except OutOfReach as error:
        progress.say(f"{method}: {error}; it keeps the recipe's")
        return None
    return tune(setting, store.folder, method, setting.origin, proposal)


def proposal_to_tune(setting: Setting, store: Store, method: str) -> Proposal:
    """The method's model before its recovery; ours is compensated, as always."""
    if method == CONTROL:
        return control(setting)
    if method != OURS:
        return propose(method, setting, tuning.SHARE, tuning.IMAGES)[0]
    out = (store.folder / "runs" / "tune-ours").resolve()
    looked_at = len(setting.refit_images)
    own = replace(setting.at(tuning.SHARE).prune, images=max(0, tuning.IMAGES - looked_at), out=str(out))
    prune(replace(setting.recipe, prune=own))
    steps = steps_of(own, len(setting.data.train_indices))
    return Proposal(load(out / "stages" / "compensated"), None, looked_at + steps.learn * steps.learn_batch)


def changed(own: PruneRecipe, name: str, value: Any) -> PruneRecipe:
    """name: "section.field" of [prune]."""
    section, _, field = name.partition(".")
    return replace(own, **{section: replace(getattr(own, section), **{field: value})})


def structure_of_ours(setting: Setting, store: Store, key: Key) -> Proposal:
    """What `ours` has cut, without the refit: the run must be there."""
    stages = store.folder / "runs" / replace(key, method=OURS, compensated=True).name / "stages"
    kept = kept_of(read_as(stages / "select.json", Selected))
    turned = stages / "axes"
    learned = round(setting.recipe.prune.learn.share * key.images)
    return Proposal(cut(load(turned) if turned.is_dir() else setting.dense, kept), None, learned)


@dataclass(frozen=True)
class Plan:
    """methods: by name. images: training images in all for cells that train. variants: of a peer,
    (trained, compensated).
    """

    methods: tuple[str, ...]
    shares: tuple[float, ...]
    seeds: tuple[int, ...]
    images: int
    variants: tuple[tuple[bool, bool], ...]

    def keys(self, method: str, share: float, seed: int) -> Iterator[Key]:
        """Cells of one structure, in the order in which they are made."""
        if method == OURS:  # compensated, always
            variants = [(trained, True) for trained in self.trained]
        elif method == CONTROL:  # nothing to refit, and without training the dense model itself
            variants = [(True, False)] if True in self.trained else []
        else:
            variants = [v for v in self.variants if not (v[1] and method in CUT_STREAM)]
        for trained, compensated in variants:
            yield Key(method, share, seed, self.images if trained else 0, compensated)

    @property
    def trained(self) -> list[bool]:
        return list(dict.fromkeys(trained for trained, _ in self.variants))


def play(setting: Setting, store: Store, plan: Plan, method: str, share: float, seed: int) -> None:
    """Every cell of the method that is not in the store; none where it cannot reach the share."""
    missing = [key for key in plan.keys(method, share, seed) if store.find(key) is None]
    if not missing:
        return
    progress.say(f"== {method}, {share:.0%} of the dense latency, seed {seed}")
    if method == OURS:
        for key in missing:
            store.put(ours_with(setting, store, key))
        return
    began = time.monotonic()
    try:
        proposal, made = (control(setting), 1.0) if method == CONTROL else propose(method, setting, share, plan.images)
    except OutOfReach as error:
        progress.say(f"{method}: {error}; its cells stay empty")
        return
    finding = time.monotonic() - began
    for key in missing:
        store.put(finish(setting, store, key, proposal, made, finding))


def finish(setting: Setting, store: Store, key: Key, proposal: Proposal, made: float, finding: float = 0.0) -> Cell:
    """Refit, recovery, export and the test images' verdict. finding: seconds that the proposal took."""
    began = time.monotonic()
    if key.compensated:
        refitted = copy.deepcopy(proposal.model)
        compensate(setting.dense, refitted, setting.refit_images, setting.data.prepare, store.folder / "scratch")
        proposal = replace(proposal, model=refitted, images=proposal.images + len(setting.refit_images))
    choice = chosen(store.folder, key.method, setting.origin)
    options = choice.options(setting.recipe.prune.recover) if choice else setting.recipe.prune.recover
    steps = setting.steps_after(proposal, key.images) if key.images else 0
    model = setting.recovered(proposal, key.images, key.name, options) if steps else proposal.model
    path = setting.export(model, store.file(key, setting.tools.target.suffix))
    structure = structure_of(model)
    counts = count(structure, geometry_of(model))  # of the model itself: a peer's residual stream may be narrower
    return Cell(
        **key.__dict__,
        accuracy=setting.accuracy_of(path),
        made=made,
        macs=counts.macs,
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=finding + time.monotonic() - began,
        path=path,
        structure=structure.to_json(),
        origin=setting.origin,
        steps=proposal.steps + steps,
        lr=options.lr if steps else 0.0,
        features=options.features if steps else 0.0,
    )


def time_together(setting: Setting, store: Store, cells: Iterable[Cell], sessions: int = 2) -> None:
    """One interleaved run over the dense file and the cells' files; what each takes is written into its cell."""
    chosen = [cell for cell in cells if cell.method != DENSE and cell.path.exists()]
    tools = setting.tools
    device: Device = tools.device
    plan = replace(tools.plan, rounds=2 * tools.plan.rounds)
    files = [setting.dense_file, *(cell.path for cell in chosen)]
    shares: list[list[float]] = []
    with progress.task(f"time {len(chosen)} files in turn", sessions * plan.rounds) as advance:
        for _ in range(sessions):
            timings = device.time(tools.target.name, files, plan, lambda done, total: advance(1))
            shares.append([ratio(t, timings[0]) for t in timings[1:]])
    for i, cell in enumerate(chosen):
        store.put(replace(cell, timed=sum(s[i] for s in shares) / sessions))


def dense_cell(setting: Setting, store: Store) -> Cell:
    """The dense file: what losses are counted from, unless the control is better."""
    key = Key(DENSE, 1.0, 0, 0, False)
    if found := store.find(key):
        return found
    structure = setting.structure
    counts = count(structure, setting.geometry)
    accuracy = setting.accuracy_of(setting.dense_file)
    cell = Cell(
        **key.__dict__,
        accuracy=accuracy,
        made=1.0,
        macs=counts.macs,
        parameters=counts.parameters,
        seconds=0.0,
        path=setting.dense_file,
        structure=structure.to_json(),
        timed=1.0,
        origin=setting.origin,
    )
    store.put(cell)
    return cell


def ablate(setting: Setting, store: Store, key: Key) -> None:
    """Cells of ours at `key` with one part off each; `key`'s own cell must be there."""
    for name, changes in ABLATIONS.items():
        wanted = replace(key, method=name)
        if (key.images or not of_training(changes)) and store.find(wanted) is None:
            progress.say(f"== {name}")
            store.put(ours_with(setting, store, wanted, changes))
    wanted = replace(key, method=NO_COMPENSATION, compensated=False)
    if store.find(wanted) is None:
        progress.say(f"== {NO_COMPENSATION}")
        proposal = structure_of_ours(setting, store, key)
        store.put(finish(setting, store, wanted, proposal, setting.share_of(proposal.model)))

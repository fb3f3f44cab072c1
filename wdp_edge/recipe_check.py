"""From plain tables to recipe dataclasses: names, types and ranges are checked, and errors say where."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

from wdp_edge.budget import parse_budget, parse_bytes
from wdp_edge.data.preprocess import parse_settings
from wdp_edge.device import Kind
from wdp_edge.errors import InputError
from wdp_edge.numbers import parse_blocks, parse_cpus
from wdp_edge.target import Precision, target_names
from wdp_edge.task import task_names
from wdp_edge.toml_lines import KeyPath

Name = Callable[[KeyPath], str]
"""How a message calls a setting: "wdp-edge.toml, line 3: prune.threads", or "--threads"."""

_INT_LIMIT = 2**63
_KINDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    bool: "true or false",
}


@dataclass(frozen=True)
class Range:
    """Numbers a setting may have. above: the lower end itself is excluded; below: the upper end is."""

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"{'more than' if self.above else 'at least'} {self.low:g}"
        if self.high == math.inf:
            return low
        return f"{low} and {'less than' if self.below else 'at most'} {self.high:g}"


COUNT = Range(low=1)
POSITIVE = Range(above=True)
SHARE = Range(high=1)

# Settings that are not here may be anything from 0 on.
RANGES: dict[str, Range] = {
    "data.holdout_images": COUNT,
    "data.calibration_images": COUNT,
    "data.min_crop": Range(high=1, above=True),
    "prune.threads": COUNT,
    "prune.seed": Range(high=2**32, below=True),
    "prune.learn.share": SHARE,
    "prune.learn.batch_size": COUNT,
    "prune.learn.scores_lr": POSITIVE,
    "prune.learn.thresholds_lr": POSITIVE,
    "prune.learn.weights_lr": POSITIVE,
    "prune.learn.exits_lr": POSITIVE,
    "prune.select.calibration_images": COUNT,
    "prune.select.margin": Range(high=1, above=True),
    "prune.select.floor": SHARE,
    "prune.select.rounds": COUNT,
    "prune.compensate.images": COUNT,
    "prune.compensate.scratch_gb": POSITIVE,
    "prune.recover.batch_size": COUNT,
    "prune.recover.lr": POSITIVE,
    "prune.recover.warmup": SHARE,
    "prune.recover.distillation": SHARE,
    "prune.recover.temperature": POSITIVE,
    "prune.recover.ema": Range(high=1, below=True),
    "prune.table.points": Range(low=2),
    "prune.table.chain": COUNT,
    "prune.table.rounds": COUNT,
    "prune.table.runs": COUNT,
    "prune.timing.seconds": Range(high=3600),
    "verify.images": COUNT,
    "budget.threads": COUNT,
    "budget.accuracy_drop": Range(high=100),
    "budget.max_class_drop": Range(high=100),
    **{
        f"verify.{kind}.{what}": SHARE
        for kind in ("fp32", "fp16", "int8", "low_bit")
        for what in ("agreement", "cosine")
    },
    "verify.fp32.error": SHARE,
    "verify.int8.factor": POSITIVE,
}


CHOICES: dict[str, Callable[[], list[str]]] = {
    "budget.target": target_names,
    "model.task": task_names,
    "budget.precision": lambda: ["default", *(p.value for p in Precision)],
    "budget.accept": lambda: [k.value for k in Kind],
    "prune.accept": lambda: [k.value for k in Kind],
    "prune.compute.device": lambda: ["auto", "cpu", "cuda"],
    "prune.compute.mixed_precision": lambda: ["auto", "off"],
    "prune.target": target_names,
    "prune.precision": lambda: ["default", *(p.value for p in Precision)],
}


# Tables of arguments that are our own.
TABLES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"data.preprocess": parse_settings}


def _check_device(name: str) -> None:
    from wdp_edge.devices import check_device

    check_device(name)


# Texts of a form of their own; an empty one means that nothing is asked.
FORMS: dict[str, Callable[[str], object]] = {
    "prune.device": _check_device,
    "budget.device": _check_device,
    "prune.timing.cpus": parse_cpus,
    "model.head_blocks": parse_blocks,
    "prune.latency_budget": parse_budget,
    "budget.latency": parse_budget,
    "budget.size": parse_bytes,
    "budget.peak_memory": parse_bytes,
}


def convert(data: Mapping[str, Any], cls: type, name: Name, path: KeyPath = (), default: Any = None) -> Any:
    """`data` as an instance of the recipe dataclass `cls`; what is absent keeps its default.

    default: the instance that holds the defaults; None for the class's own. Tables of one class may differ in theirs.
    Raises InputError for the first unknown key, wrong type or value out of range.
    """
    default = cls() if default is None else default
    known = {f.name: f for f in fields(cls)}
    types = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in data.items():
        here = (*path, key)
        if key not in known:
            raise _unknown(here, cls, isinstance(value, Mapping), name)
        if is_dataclass(types[key]):
            if not isinstance(value, Mapping):
                raise InputError(
                    f"{name(here)} is a table of settings, not {_shown(value)}.",
                    f"Write a line [{'.'.join(here)}] and its settings below it.",
                )
            values[key] = convert(value, types[key], name, here, getattr(default, key))
        elif (kind := _item_kind(types[key])) is not None:
            values[key] = _items(value, kind, name, here)
        else:
            values[key] = _value(value, known[key], types[key], name, here)
    return replace(default, **values)


def _item_kind(kind: Any) -> type | None:
    """The class of the tables in a `tuple[Class, ...]`; None for anything else."""
    if get_origin(kind) is not tuple:
        return None
    item: type = get_args(kind)[0]
    return item


def _items(value: Any, cls: type, name: Name, path: KeyPath) -> tuple[Any, ...]:
    """An array of tables. Items are called "1", "2" and so on in a path."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
        raise InputError(
            f"{name(path)} is a list of tables, not {_shown(value)}.",
            f"Write a line [[{'.'.join(path)}]] for each and its settings below it.",
        )
    return tuple(convert(item, cls, name, (*path, str(number))) for number, item in enumerate(value, 1))


def settings(cls: type, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every table and setting below the dataclass `cls` with its type."""
    for key, kind in get_type_hints(cls).items():
        yield (*path, key), kind
        table = _item_kind(kind) or kind
        if isinstance(table, type) and is_dataclass(table):
            yield from settings(table, (*path, key))


def _value(value: Any, field: Field[Any], kind: Any, name: Name, path: KeyPath) -> Any:
    dotted = _general(path)
    if kind not in _KINDS:
        return _arguments(value, name, path)
    if kind is float and type(value) is int and abs(value) < _INT_LIMIT:
        value = float(value)
    wrong = type(value) is not kind
    if wrong or (kind is int and abs(value) >= _INT_LIMIT) or (kind is float and not math.isfinite(value)):
        raise InputError(f"{name(path)} must be {_KINDS[kind]}, not {_shown(value)}.", _meaning(field, dotted))
    if kind in (int, float):
        allowed = RANGES.get(dotted, Range())
        if not allowed.holds(value):
            raise InputError(f"{name(path)} must be {allowed}, not {value:g}.", _meaning(field, dotted))
    elif kind is str:
        _check_text(value, name, path)
    return value


def _check_text(value: str, name: Name, path: KeyPath) -> None:
    dotted = _general(path)
    if dotted in CHOICES and value not in (allowed := CHOICES[dotted]()):
        near = difflib.get_close_matches(value, allowed, n=1)
        raise InputError(
            f"{name(path)} cannot be '{value}'.",
            f"Did you mean {near[0]}?" if near else f"Use one of: {', '.join(allowed)}.",
        )
    if dotted in FORMS and value:
        try:
            FORMS[dotted](value)
        except InputError as error:
            raise InputError(f"{name(path)}: {error.message}", error.hint) from error


def _general(path: KeyPath) -> str:
    """The setting's dotted name, the same for every item of an array."""
    return ".".join(part for part in path if not part.isdigit())


def _arguments(value: Any, name: Name, path: KeyPath) -> dict[str, Any]:
    """Free arguments for somebody else's function: numbers, texts, true or false, and lists of them."""
    if not isinstance(value, Mapping):
        raise InputError(
            f"{name(path)} must be a table of arguments, not {_shown(value)}.",
            f"Write it as {path[-1]} = {{ img_size = 224 }}.",
        )
    for key, item in value.items():
        if key == "pretrained_cfg_overlay" or (key == "pretrained_cfg" and isinstance(item, Mapping)):
            raise InputError(
                f"{name((*path, key))} cannot be set.",
                "Set mean, std, interpolation and crop_pct with preprocess in [data], or --preprocess of init.",
            )
        parts = item if isinstance(item, list | tuple) else [item]
        if not all(_plain(part) for part in parts):
            raise InputError(
                f"{name((*path, key))} must be a number, a text, true or false, or a list of them, not {_shown(item)}.",
                "Give the value as timm.create_model takes it.",
            )
    arguments = {key: list(v) if isinstance(v, list | tuple) else v for key, v in value.items()}
    if (dotted := _general(path)) not in TABLES:
        return arguments
    try:
        return TABLES[dotted](arguments)
    except InputError as error:
        raise InputError(f"{name(path)}: {error.message}", error.hint) from error


def _plain(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < _INT_LIMIT
    return isinstance(value, str | bool) or (isinstance(value, float) and math.isfinite(value))


def _unknown(path: KeyPath, cls: type, is_table: bool, name: Name) -> InputError:
    """The error for a key that `cls` lacks, with the nearest one, wherever it belongs."""
    parent, key = path[:-1], path[-1]
    where = f"[{'.'.join(parent)}]" if parent else "a recipe"
    what = f"there is no {'table' if is_table else 'setting'} '{key}' in {where}"
    own = [f.name for f in fields(cls)]
    hint = f"{where[0].upper()}{where[1:]} has: {', '.join(own)}."
    if near := difflib.get_close_matches(key, own, n=1, cutoff=0.6):
        hint = f"Did you mean {near[0]}?"
    elif elsewhere := _elsewhere(key):
        hint = f"It belongs in {' or '.join(f'[{t}]' for t in elsewhere)}."
    return InputError(f"{name(path)}: {what}.", hint)


def _elsewhere(key: str) -> list[str]:
    from wdp_edge.recipe import Recipe

    return [".".join(p[:-1]) for p, kind in settings(Recipe) if p[-1] == key and len(p) > 1 and not is_dataclass(kind)]


def _meaning(field: Field[Any], dotted: str) -> str:
    return f"{dotted} is: {field.metadata['doc']}."


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

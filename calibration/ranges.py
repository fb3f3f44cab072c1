"""Which range of values an activation gets, from calibration images: min-max, percentile or least squared error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.protocols.target import Observer

Range = tuple[Tensor, Tensor]
Seen = dict[str, tuple[Tensor, Tensor]]

_BATCH = 16  # images whose activations are in memory at once
_BINS = 2048
_LEVELS = 255
_PERCENTILE = 99.99
_CUTS = 64  # candidates for each end of a range
_ROUNDS = 3


def input_and_output_ranges(
    lowered: nn.Module, names: Sequence[str], images: Tensor, observer: Observer
) -> dict[str, tuple[Range, Range]]:
    """Ranges of the input and of the output of the layers called `names`, from the float model.

    lowered: takes one image. images: [n, 3, H, W].
    """
    return ranges_seen(lambda: activations(lowered, names, images), observer)


def ranges_seen(passes: Callable[[], Iterator[Seen]], observer: Observer) -> dict[str, tuple[Range, Range]]:
    """Ranges of the input and of the output of every layer, over all images.

    passes: begins a pass over the images, which gives inputs and outputs by the layer's name, a few images at a time.
    """
    found: dict[str, tuple[Range, Range]] = {}
    for seen in passes():
        for name, (x, y) in seen.items():
            before = found.get(name, (_span(x), _span(y)))
            found[name] = _union(before[0], _span(x)), _union(before[1], _span(y))
    if observer is Observer.MINMAX:
        return found
    counts = {name: [torch.zeros(_BINS) for _ in both] for name, both in found.items()}
    for seen in passes():
        for name, both in seen.items():
            for count, x, (low, high) in zip(counts[name], both, found[name], strict=True):
                count += torch.histc(x.float(), _BINS, float(low), float(high)).cpu()
    shrink = percentile_range if observer is Observer.PERCENTILE else least_error_range
    return {
        name: (shrink(counts[name][0], *found[name][0]), shrink(counts[name][1], *found[name][1])) for name in found
    }


def _span(x: Tensor) -> Range:
    return x.amin().cpu(), x.amax().cpu()


def _union(first: Range, second: Range) -> Range:
    return torch.minimum(first[0], second[0]), torch.maximum(first[1], second[1])


def activations(lowered: nn.Module, names: Sequence[str], images: Tensor) -> Iterator[Seen]:
    """Input and output, [b, 1, ...], of every named layer, a few images at a time."""
    with torch.no_grad(), progress.task("observe activations", len(images)) as advance:
        for part in images.split(_BATCH):
            yield torch.func.vmap(_observed(lowered, names))(part[:, None])
            advance(len(part))


def _observed(lowered: nn.Module, names: Sequence[str]) -> Callable[[Tensor], Seen]:
    """A function of one image that gives what `activations` yields."""

    def run(image: Tensor) -> Seen:
        seen: Seen = {}
        with _noting(lowered, names, seen):
            lowered(image)
        return seen

    return run


@contextmanager
def _noting(lowered: nn.Module, names: Sequence[str], seen: Seen) -> Iterator[None]:
    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, inputs, output: seen.update({name: (inputs[0], output)})

    handles = [lowered.get_submodule(name).register_forward_hook(note(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def percentile_range(counts: Tensor, low: Tensor, high: Tensor) -> Range:
    """Cuts the same share of values off both ends. counts: [bins], a histogram from `low` to `high`."""
    share = counts.double().cumsum(0) / counts.double().sum()
    outside = (100 - _PERCENTILE) / 200
    width = (high - low) / len(counts)
    first = int((share <= outside).sum())
    last = int((share < 1 - outside).sum())
    return low + width * first, low + width * (last + 1)


def least_error_range(counts: Tensor, low: Tensor, high: Tensor) -> Range:
    """The range with the least squared rounding error, its ends chosen in turn.

    counts: [bins], a histogram from `low` to `high`.
    """
    centres = low + (high - low) * (torch.arange(len(counts)) + 0.5) / len(counts)
    share = torch.linspace(1 / _CUTS, 1, _CUTS)
    lowest, highest = low.clamp_max(0), high.clamp_min(0)
    chosen_low, chosen_high = lowest, highest
    for _ in range(_ROUNDS):
        chosen_high = _best(counts, centres, chosen_low.expand(_CUTS), highest * share)[1]
        chosen_low = _best(counts, centres, lowest * share, chosen_high.expand(_CUTS))[0]
    return chosen_low, chosen_high


def _best(counts: Tensor, centres: Tensor, lows: Tensor, highs: Tensor) -> Range:
    """Of the ranges (lows[i], highs[i]) the one whose 256 values fit the histogram best."""
    scale = ((highs - lows) / _LEVELS).clamp_min(torch.finfo(lows.dtype).tiny)[:, None]
    zero = (-lows[:, None] / scale).round()
    rounded = ((centres / scale).round().add(zero).clamp(0, _LEVELS) - zero) * scale
    best = int((counts * (rounded - centres).square()).sum(1).argmin())
    return lows[best], highs[best]

"""`wdp-edge import`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdp_edge.cli._shared import Json, perform

if TYPE_CHECKING:
    from wdp_edge.pipeline.import_dataset import ImportResult


def import_(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="As timm takes it: torch/cifar10, hfds/user/name, wds/ …")
    ],
    split: Annotated[
        list[str], typer.Option("--split", metavar="SPLIT", help="Such as train; one list each, so repeat it.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where lists and images go.")],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="Where the dataset is, or is downloaded to.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the dataset where timm can.")] = False,
    as_json: Json = False,
) -> int:
    """Turn a dataset of timm into images and lists that `init` takes."""

    def call() -> ImportResult:
        import wdp_edge

        return wdp_edge.import_dataset(name, split, out, data, download)

    return perform(call, _show, as_json)


def _show(result: ImportResult) -> None:
    from wdp_edge.cli._print import near, print_line

    for part in result.splits:
        print_line(f"Wrote {near(part.list)}: {part.images} images.")
    print_line("Next: wdp-edge init --data FOLDER, with lists called train and val or test.")

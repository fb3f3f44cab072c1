"""The picture of widths as a file: `python -m wdp_edge.report.picture RUN OUT.png` (or OUT.svg)."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from wdp_edge.errors import InputError, WdpError, printable


def write_picture(run: Path, path: Path) -> None:
    """Widths and exit of a finished run as .png or .svg.

    Raises InputError for another suffix, and for a run without its dense or select stage.
    """
    from wdp_edge.report.plots import plot_widths
    from wdp_edge.report.record import read_record
    from wdp_edge.report.style import save

    if path.suffix.lower() not in (".png", ".svg"):
        raise InputError(f"{path} is neither a .png nor an .svg.", "Name it .png or .svg.")
    widths = read_record(run).widths
    if widths is None:
        raise InputError(f"{run} has no stages/dense.json or stages/select.json.", "Give a finished run.")
    save(partial(plot_widths, widths), path)


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m wdp_edge.report.picture RUN OUT.png|OUT.svg", file=sys.stderr)
        return 2
    try:
        write_picture(Path(arguments[0]), Path(arguments[1]))
    except WdpError as error:
        print(printable(str(error)), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

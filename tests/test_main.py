"""wdp_edge/__main__.py: `python -m wdp_edge` is `wdp-edge`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points


def test_module_and_command_are_one() -> None:
    from wdp_edge import __main__, cli

    (command,) = entry_points(group="console_scripts", name="wdp-edge")
    assert command.load() is vars(__main__)["main"] is cli.main


def test_the_exit_code_is_the_commands() -> None:
    done = subprocess.run([sys.executable, "-m", "wdp_edge", "prun"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "") and "prun" in done.stderr

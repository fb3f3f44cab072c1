"""FAKE: the files of a machine that shows temperature and clock, for tests on machines that may show neither."""

from __future__ import annotations

import os
from pathlib import Path


def fake_sysfs(root: Path) -> None:
    """Three sensors, one of them off; the clock of every core that may be used, and of a faster one that may not."""
    for number, millidegrees in enumerate((39_000, 44_500, -273_000)):
        zone = root / "sys/class/thermal" / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(f"{millidegrees}\n")
    for cpu in (*os.sched_getaffinity(0), 4000):
        clock = root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        clock.mkdir(parents=True)
        (clock / "scaling_cur_freq").write_text("9999000\n" if cpu == 4000 else "2400000\n")

"""Third-party programs that time a file: what LiteRT's benchmark_model and ExecuTorch's executor_runner take and say.

Pure functions. `wdp_edge.devices.own_runner` starts the programs.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from wdp_edge.errors import InputError
from wdp_edge.protocols.device import TimingPlan

_MEBIBYTE = 1 << 20
_ROUNDED = 1.0001  # means are reported with six digits
_FIGURE = re.compile(r"\b(\w+)=(\d+(?:\.\d*)?(?:e[+-]?\d+)?)")
_PEAK = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: (\d+(?:\.\d*)?)")
_ITERATION = re.compile(r"\bIteration (\d{1,9}) of (\d{1,9}): (\d+(?:\.\d*)?) ms")
_TOTAL = re.compile(r"\bModel executed successfully (\d{1,9}) time\(s\) in (\d+(?:\.\d*)?) ms")


@dataclass(frozen=True)
class ReportedTimes:
    """What one process reports about its timed runs, in ms.

    runs: of each, () where it only reports figures over all of them. middle: their median if it reports that, else
    their mean, as `statistic` says. fastest: the mean again if it reports nothing else.
    """

    fastest: float
    middle: float
    statistic: str
    runs: tuple[float, ...] = ()


@dataclass(frozen=True)
class TimingProgram:
    """A program that runs one file.

    options: for a file on the device. parse: what it says, on stdout, stderr or in the device's log; raises ValueError
    when no times are in it. memory: the options that make it report its peak memory, and a parser of that, in bytes;
    None where it cannot. advice: what to do when it reports no times. log_tag: of its lines in Android's log, where
    they do not come on stdout or stderr.
    """

    name: str
    options: Callable[[str, TimingPlan], list[str]]
    parse: Callable[[str, TimingPlan], ReportedTimes]
    memory: tuple[Callable[[str, TimingPlan], list[str]], Callable[[str], int | None]] | None
    advice: str
    log_tag: str = ""


# --- benchmark_model: tflite/tools/benchmark/benchmark_model.cc of google-ai-edge/LiteRT, and TensorFlow's ---


def benchmark_model_options(file: str, plan: TimingPlan) -> list[str]:
    """`min_secs` would add runs. Untimed runs go on for half a second, its own default."""
    counts = [f"--num_runs={plan.runs}", "--min_secs=0", f"--warmup_runs={plan.warmup}"]
    return [f"--graph={file}", f"--num_threads={plan.threads}", *counts]


def benchmark_model_memory_options(file: str, plan: TimingPlan) -> list[str]:
    """A process of its own: benchmark_model.cc warns that asking for memory may slow the runs down."""
    once = ["--num_runs=1", "--min_secs=0", "--warmup_runs=0", "--report_peak_memory_footprint=true"]
    return [f"--graph={file}", f"--num_threads={plan.threads}", *once]


def parse_benchmark_model(said: str, plan: TimingPlan) -> ReportedTimes:
    """The last of the lines of figures before the summary; the first one is of the untimed runs.

    In microseconds, by `OutputToStream` of stats_calculator.h; newer versions add the percentiles:

        count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 p5=… median=1239807 p95=…
        count=9 curr=41(all same)
        Inference timings in us: Init: 5579, First inference: 1357602, Warmup (avg): 1.3576e+06, Inference (avg): …
    """
    before, summary, _ = said.partition("Inference timings in us:")
    lines = [dict(_FIGURE.findall(line)) for line in before.splitlines() if "count=" in line and "curr=" in line]
    if not summary or len(lines) < 2:
        raise ValueError("no figures")
    figures = {name: float(value) / 1e3 for name, value in lines[-1].items()}
    alike = "avg" not in figures  # one run, or all the same to the microsecond
    statistic, name = ("median", "median") if "median" in figures else ("mean", "avg")
    if alike:
        statistic, name = "median", "curr"
    middle = figures[name]
    fastest = middle if alike else figures.get("min", 0.0)
    if not 0 < fastest <= _ROUNDED * middle:
        raise ValueError("no times")
    return ReportedTimes(fastest, middle, statistic)


def parse_benchmark_model_memory(said: str) -> int | None:
    """Bytes. None where the program does not know."""
    found = _PEAK.search(said)
    return round(float(found[1]) * _MEBIBYTE) if found else None


# --- executor_runner: examples/portable/executor_runner/executor_runner.cpp of pytorch/executorch ---


def executor_runner_options(file: str, plan: TimingPlan) -> list[str]:
    """It has no untimed runs, so they are among the executions."""
    counts = [f"--num_executions={plan.warmup + plan.runs}", f"--cpu_threads={plan.threads}"]
    return [f"--model_path={file}", *counts]


def parse_executor_runner(said: str, plan: TimingPlan) -> ReportedTimes:
    """Newer versions report every execution, of which the untimed ones are left out; older ones only the sum.

        I 00:00:06.075611 executorch:executor_runner.cpp:705] Iteration 1 of 1: 241.944288 ms
        I 00:00:06.075701 executorch:executor_runner.cpp:714] Model executed successfully 1 time(s) in 241.944288 ms.

    On Android they are in the system's log only (runtime/platform/default/android.cpp), without their beginnings.
    """
    total = _TOTAL.search(said)
    count = plan.warmup + plan.runs
    if total is None or int(total[1]) != count:
        raise ValueError("no figures")
    each = [float(ms) for _, of, ms in _ITERATION.findall(said) if int(of) == count]
    runs = tuple(each[plan.warmup :]) if len(each) == count else ()
    mean = float(total[2]) / count
    if min(runs, default=mean) <= 0:
        raise ValueError("no times")
    if runs:
        return ReportedTimes(min(runs), statistics.median(runs), "median", runs)
    return ReportedTimes(mean, mean, "mean")


PROGRAMS = {
    "tflite": TimingProgram(
        "benchmark_model",
        benchmark_model_options,
        parse_benchmark_model,
        (benchmark_model_memory_options, parse_benchmark_model_memory),
        "Use the benchmark_model of LiteRT or TensorFlow for this device's CPU.",
    ),
    "executorch": TimingProgram(
        "executor_runner",
        executor_runner_options,
        parse_executor_runner,
        None,
        "Build it with -DEXECUTORCH_ENABLE_LOGGING=ON, which a release build leaves out.",
        log_tag="ExecuTorch",
    ),
}


def program_for(target: str) -> TimingProgram:
    """Raises InputError for files of a target that has no such program."""
    if target not in PROGRAMS:
        known = ", ".join(f"{p.name} for {name}" for name, p in PROGRAMS.items())
        raise InputError(f"No third-party program that times {target} files is known.", f"Known: {known}.")
    return PROGRAMS[target]

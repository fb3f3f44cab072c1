"""wdp_edge/devices/programs.py: argument lists, and parsers on what real programs said somewhere."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.devices.programs import (
    PROGRAMS,
    ReportedTimes,
    benchmark_model_memory_options,
    parse_benchmark_model,
    parse_benchmark_model_memory,
    parse_executor_runner,
)
from wdp_edge.protocols.device import TimingPlan

PLAN = TimingPlan(runs=15, warmup=3, threads=2)

# RECORDED: TensorFlow 2.4 on a phone, four threads.
OLD = """STARTING!
Num threads: [4]
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=2 first=360262 curr=248950 min=248950 max=360262 avg=304606 std=55656

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=249042 curr=250889 min=247067 max=254474 avg=249684 std=1442

Inference timings in us: Init: 16242, First inference: 360262, Warmup (avg): 304586, Inference (avg): 249684
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory
Peak memory footprint (MB): init=4.92969 overall=138.809
"""
# RECORDED: a newer one on a Linux board, with percentiles.
NEW = """INFO: STARTING!
INFO: Graph: [/usr/share/oob-demo-assets/models/ssd_mobilenet_v2_coco.tflite]
INFO: The input model file size (MB): 67.3128
INFO: Initialized session in 5.579ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 p5=1238753 median=1239807 \
p95=1247415

INFO: Inference timings in us: Init: 5579, First inference: 1357602, Warmup (avg): 1.3576e+06, Inference (avg): \
1.24027e+06
INFO: Memory footprint delta from the start of the tool (MB): init=6.36328 overall=109.832
"""
END = "Inference timings in us: Init: 5, First inference: 5, Warmup (avg): 5, Inference (avg): 5"
MEMORY = "INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.2383\n"
# RECORDED: ExecuTorch's from 2026, with every execution, and from 2024, without.
EACH = """I 00:00:05.833558 executorch:executor_runner.cpp:564] Model loaded in 4463.268273 ms.
I 00:00:06.075611 executorch:executor_runner.cpp:705] Iteration 1 of 1: 241.944288 ms
I 00:00:06.075701 executorch:executor_runner.cpp:714] Model executed successfully 1 time(s) in 241.944288 ms.
"""
SUM = """I 00:00:00.051509 executorch:executor_runner.cpp:218] Model file model/linear_model_f32.pte is loaded.
I 00:00:00.091459 executorch:executor_runner.cpp:340] Model executed successfully 1 time(s) in 2.904883 ms.
I 00:00:00.091477 executorch:executor_runner.cpp:349] 1 outputs:
OutputX 0: tensor(sizes=[1, 256], [
"""


def test_benchmark_model_is_asked_for_one_round() -> None:
    assert PROGRAMS["tflite"].options("/d/m.tflite", PLAN) == [
        "--graph=/d/m.tflite",
        "--num_threads=2",
        "--num_runs=15",
        "--min_secs=0",
        "--warmup_runs=3",
    ]
    assert "--report_peak_memory_footprint=true" in benchmark_model_memory_options("/d/m.tflite", PLAN)


def test_executor_runner_is_asked_for_one_round() -> None:
    words = PROGRAMS["executorch"].options("/d/m.pte", PLAN)
    assert words == ["--model_path=/d/m.pte", "--num_executions=18", "--cpu_threads=2"]


def test_benchmark_model_tells_a_median_or_a_mean() -> None:
    assert parse_benchmark_model(NEW, PLAN) == ReportedTimes(1238.588, 1239.807, "median")
    assert parse_benchmark_model(OLD, PLAN) == ReportedTimes(247.067, 249.684, "mean")
    assert parse_benchmark_model_memory(NEW + MEMORY) == round(93.2383 * 1024 * 1024)
    assert parse_benchmark_model_memory(NEW) is None


@pytest.mark.parametrize("line", ["count=9 curr=41(all same)", "count=1 curr=41", "curr=41 count=9(all same)"])
def test_runs_that_are_all_alike(line: str) -> None:
    """Of stats_calculator.h; the last form is of 2017."""
    said = f"count=3 first=60 curr=41 min=41 max=60 avg=50 std=9\n{line}\n\n{END}"
    assert parse_benchmark_model(said, PLAN) == ReportedTimes(0.041, 0.041, "median")


def test_executor_runner_tells_every_execution_or_their_sum() -> None:
    once = TimingPlan(runs=1, warmup=0)
    assert parse_executor_runner(EACH, once) == ReportedTimes(241.944288, 241.944288, "median", (241.944288,))
    assert parse_executor_runner(SUM, once) == ReportedTimes(2.904883, 2.904883, "mean")


def test_untimed_executions_are_left_out() -> None:
    times = [90.0, 50.0, 3.0, 1.0, 2.0]
    lines = [f"Iteration {i} of 5: {ms:f} ms" for i, ms in enumerate(times, 1)]
    said = "\n".join([*lines, f"Model executed successfully 5 time(s) in {sum(times):f} ms."])  # as in Android's log
    assert parse_executor_runner(said, TimingPlan(runs=3, warmup=2)) == ReportedTimes(
        1.0, 2.0, "median", (3.0, 1.0, 2.0)
    )
    without = said.splitlines()[-1]
    assert parse_executor_runner(without, TimingPlan(runs=3, warmup=2)) == ReportedTimes(29.2, 29.2, "mean")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tflite", ""),
        ("tflite", NEW[: NEW.index("INFO: Inference timings")]),  # it ended before it was done
        ("tflite", NEW[NEW.index("INFO: Inference timings") :]),
        (
            "tflite",
            "count=1 curr=5\ncount=2 first=0 curr=1 min=0 max=1 avg=0.5 std=1\nInference timings in us: Init: 1",
        ),
        ("tflite", "count=1 curr=5\ncount=2 first=9 curr=9 min=9 max=9 avg=1 std=1\nInference timings in us: Init: 1"),
        ("executorch", ""),
        ("executorch", "Model executed successfully 18 time(s)."),  # of 2023, without times
        ("executorch", SUM),  # another number of executions: another process
        ("executorch", "Model executed successfully 18 time(s) in 0.000000 ms."),
    ],
)
def test_what_holds_no_times_is_refused(target: str, said: str) -> None:
    with pytest.raises(ValueError, match="no "):
        PROGRAMS[target].parse(said, PLAN)


@given(st.lists(st.sampled_from([*OLD.splitlines(), *NEW.splitlines(), *EACH.splitlines()]) | st.text(), max_size=12))
def test_whatever_is_said_is_a_time_or_refused(lines: list[str]) -> None:
    for program in PROGRAMS.values():
        with contextlib.suppress(ValueError):
            told = program.parse("\n".join(lines), TimingPlan(runs=1, warmup=0))
            assert 0 < told.fastest <= 1.001 * told.middle

"""wdp-edge.toml: what is written is read back, and nonsense is named with file, line and key."""

import dataclasses
import string
import typing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wdp_edge.config.file import absolute_paths, dump_recipe, load_recipe, merge
from wdp_edge.config.recipe import BudgetRecipe, PruneRecipe, Recipe
from wdp_edge.config.validation import described, setting_of
from wdp_edge.data.preprocess import CROP_MODES, INTERPOLATIONS
from wdp_edge.errors import InputError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FILE_NAME = st.text(string.ascii_letters + string.digits + " äß'\"\\#=[]-", min_size=1, max_size=12)
SCALAR = st.one_of(
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
)
ARGUMENTS = st.dictionaries(TEXT, st.one_of(SCALAR, st.lists(SCALAR, max_size=3)), max_size=4)

CHANNELS = st.lists(st.floats(0.01, 1), min_size=3, max_size=3)
PREPROCESS = st.fixed_dictionaries(
    {},
    optional={
        "mean": CHANNELS,
        "std": CHANNELS,
        "interpolation": st.sampled_from(INTERPOLATIONS),
        "crop_pct": st.floats(0.1, 1),
        "crop_mode": st.sampled_from(CROP_MODES),
    },
)


def values(dotted: str, kind: object) -> st.SearchStrategy:
    """Values that a setting may have."""
    facts = setting_of(dotted).metadata
    if facts["choices"]:
        return st.sampled_from(list(facts["choices"]()))
    if dotted in ("prune.latency_budget", "budget.latency"):
        return st.sampled_from(["", "20ms", "50%", "0.02 s", "1.5ms"])
    if dotted == "prune.macs_budget":
        return st.sampled_from(["", "50%", "1.2G", "30%,50%", "4.6 GMACs"])
    if dotted == "prune.keep":
        return st.sampled_from(["", "0.7", "70%", "0.3,0.5"])
    if dotted == "prune.device":
        return st.sampled_from(["local", "local,ssh:pi@board:22", "adb:0123, qemu:cortex-a76"])
    if dotted == "budget.device":
        return st.sampled_from(["local", "ssh:pi@board:22", "adb:0123", "qemu:cortex-a76", "apple", "apple:cpu+ne"])
    if dotted in ("prune.timing.cpus", "model.head_blocks"):
        return st.sampled_from(["", "0", "4,5"])
    if dotted in ("budget.size", "budget.peak_memory"):
        return st.sampled_from(["", "6MB", "0.5 GiB", "1B", "12 kB"])
    if dotted == "data.preprocess":
        return PREPROCESS
    if dotted == "data.class_order":
        return st.sampled_from(["alphabetical", "natural", "/data/classes.txt"])
    if facts["path"]:
        return st.one_of(st.just(""), FILE_NAME.map(lambda name: f"/data/{name}"))
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(facts["ge"], min(facts.get("le", 2**40), facts.get("lt", 2**40) - 1))
    if kind is float:
        low, high = facts.get("gt", facts.get("ge")), facts.get("lt", facts.get("le", 1e30))
        return st.floats(low, high, exclude_min="gt" in facts, exclude_max="lt" in facts)
    return TEXT if kind is str else ARGUMENTS


def recipes(cls: type = Recipe, path: tuple[str, ...] = ()) -> st.SearchStrategy:
    parts = {}
    for key, kind in typing.get_type_hints(cls).items():
        here = (*path, key)
        if typing.get_origin(kind) is tuple:
            parts[key] = st.lists(recipes(typing.get_args(kind)[0], here), max_size=3).map(tuple)
            continue
        nested = dataclasses.is_dataclass(kind)
        parts[key] = recipes(kind, here) if nested else values(".".join(here), kind)
    return st.builds(cls, **parts)


@given(recipe=recipes(), comments=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_dumped_recipe_loads_as_itself(tmp_path: Path, recipe: Recipe, comments: bool) -> None:
    file = tmp_path / "wdp-edge.toml"
    file.write_text(dump_recipe(recipe, comments), encoding="utf-8", newline="")
    assert load_recipe(file) == recipe


def test_every_setting_is_written_with_its_meaning() -> None:
    text = dump_recipe(Recipe(budget=(BudgetRecipe(),)), comments=True)
    for dotted, kind in described().items():
        if dataclasses.is_dataclass(kind):
            assert f"[{dotted}]" in text
        else:
            assert f"\n{dotted.rpartition('.')[2]} = " in text
    assert "several get a run each: 30%,50%,70%\nlatency_budget = " in text
    assert "#" not in dump_recipe(Recipe(), comments=False)


def test_absent_settings_keep_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[prune.learn]\nshare = 1\n")
    loaded = load_recipe(tmp_path / "r.toml")
    assert loaded.prune.learn.share == 1.0
    assert type(loaded.prune.learn.share) is float
    assert loaded.prune.recover == PruneRecipe().recover


@pytest.mark.parametrize("table", ["fp16", "low_bit", "fp32", "int8"])
def test_a_table_that_is_partly_filled_keeps_the_defaults_of_its_own(tmp_path: Path, table: str) -> None:
    path = tmp_path / "wdp-edge.toml"
    path.write_text(f"[verify.{table}]\nagreement = 0.5\n")
    expected = dataclasses.replace(getattr(Recipe().verify, table), agreement=0.5)
    assert getattr(load_recipe(path).verify, table) == expected


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    text = "[model]\ncheckpoint = 'dense.pt'\n[data]\ntrain = '/data/train'\nval = '~/val'\n"
    (folder / "wdp-edge.toml").write_text(
        f"{text}[prune]\nout = 'mine'\n[prune.timing]\nrunner = 'tools/benchmark_model'\n"
    )
    monkeypatch.setenv("HOME", "/home/somebody")
    loaded = load_recipe(folder / "wdp-edge.toml")
    assert loaded.model.checkpoint == str(folder / "dense.pt")
    assert loaded.data.train == "/data/train"
    assert loaded.data.val == "/home/somebody/val"
    assert loaded.prune.out == str(folder / "mine")
    assert loaded.prune.timing.runner == str(folder / "tools/benchmark_model")
    monkeypatch.chdir(folder)
    here = load_recipe(Path("wdp-edge.toml"))
    assert here.model.checkpoint == "dense.pt"
    assert absolute_paths(here) == loaded


WRONG = [
    ("[prune]\nthreads = 0\n", 2, "prune.threads must be at least 1, not 0"),
    ("[prune]\n\n# four\nthreads = 'four'\n", 4, "prune.threads must be a whole number, not 'four'"),
    ("[prune]\nimages = true\n", 2, "prune.images must be a whole number, not true"),
    ("[prune]\nimages = 1.5\n", 2, "prune.images must be a whole number"),
    ("[prune]\nseed = 99999999999999999999\n", 2, "prune.seed must be at least 0 and less than 4294967296"),
    ("[prune]\nimages = 99999999999999999999\n", 2, "prune.images must be a whole number"),
    ("[prune]\nepochs = nan\n", 2, "prune.epochs must be a number"),
    ("[prune]\nepochs = inf\n", 2, "prune.epochs must be a number, not inf"),
    ("[prune]\nepochs = false\n", 2, "prune.epochs must be a number, not false"),
    ("[prune]\nout = 3\n", 2, "prune.out must be a text in quotes"),
    ("[prune.learn]\nshare = 1.5\n", 2, "prune.learn.share must be at least 0 and at most 1"),
    ("prune.select.margin = 0\n", 1, "prune.select.margin must be more than 0 and at most 1"),
    ("[prune]\nlatency_budget = '3 parsecs'\n", 2, "'3 parsecs' is not a latency budget"),
    ("[prune]\ntarget = 'executroch'\n", 2, "cannot be 'executroch'. Did you mean executorch?"),
    ("[prune]\nprecision = 'int9'\n", 2, "Use one of: default, fp32"),
    ("[prune]\nlatency_bugdet = '3ms'\n", 2, "Did you mean latency_budget?"),
    ("[prune]\nbatch_size = 3\n", 2, "It belongs in [prune.learn] or [prune.recover]."),
    ("[prune]\nnonsense = 3\n", 2, "[prune] has: latency_budget, macs_budget, keep, target"),
    ("\n\n[modle]\nname = 'x'\n", 3, "there is no table 'modle' in a recipe. Did you mean model?"),
    ("[prune]\nlearn = 3\n", 2, "prune.learn is a table of settings, not 3"),
    ("[model]\nargs = 3\n", 2, "model.args must be a table of arguments"),
    ("[model]\nargs = { size = { a = 1 } }\n", 2, "model.args.size must be a number"),
    ("[model.args]\nx = 1\n\nsize = 1979-05-27\n", 4, "model.args.size must be a number"),
    ("[model]\nname = '''\na\n[prune]\n'''\nnum_classes = -1\n", 6, "model.num_classes must be at least 0"),
    ("[prune]\nseed =\n", 2, "seed: Invalid value"),
    ("[prune]\nseed = 1\nseed = 2\n", 3, "Cannot overwrite a value"),
    ("[model]\nname = 'x'\n[prune\n", 3, "in '[prune'"),
    ("[[budget]]\nlatency = '3ms'\n\n[[budget]]\nlatency = 'soon'\n", 5, "budget.2.latency: 'soon' is not a latency"),
    ("[prune]\ndevice = 'fax:3'\n", 2, "prune.device: There is no device 'fax:3'. Known devices: local, adb:SERIAL, "),
    ("[prune.timing]\ncpus = 'all'\n", 2, "prune.timing.cpus: 'all' is not a comma-separated list of core numbers"),
    ("[model]\nhead_blocks = 'last'\n", 2, "model.head_blocks: 'last' is not a comma-separated list of block numbers"),
    ("[[budget]]\ndevice = 'qemu:'\n", 2, "budget.1.device: There is no device 'qemu:'"),
    ("[[budget]]\nsize = '3 boxes'\n", 2, "budget.1.size: '3 boxes' is not a size"),
    ("[[budget]]\npeak_memory = '0MB'\n", 2, "'0MB' is not a size"),
    ("[[budget]]\ntarget = 'onxx'\n", 2, "Did you mean onnx?"),
    ("[[budget]]\naccept = 'guessed'\n", 2, "Use one of: measured, virtual, estimated"),
    ("[[budget]]\naccuracy_drop = 101\n", 2, "budget.1.accuracy_drop must be at least 0 and at most 100"),
    ("[[budget]]\nmax_class_drop = -1\n", 2, "budget.1.max_class_drop must be at least 0 and at most 100"),
    ("[[budget]]\nlatncy = '3ms'\n", 2, "Did you mean latency?"),
    ("budget = 3\n", 1, "budget is a list of tables, not 3"),
    ("[budget]\nlatency = '3ms'\n", 1, "Write a line [[budget]]"),
]


@pytest.mark.parametrize(("text", "line", "says"), WRONG)
def test_nonsense_is_named_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    file = tmp_path / "wdp-edge.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(file)
    assert caught.value.message.startswith(f"{file}, line {line}: ")
    assert says in str(caught.value)
    assert caught.value.hint


def test_windows_line_ends_and_byte_order_mark_are_read(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_bytes(b"\xef\xbb\xbf[prune]\r\nseed = 7\r\nthreads = 2\r\n")
    assert load_recipe(file).prune.seed == 7
    file.write_bytes(b"[prune]\r\nseed = 7\r\nthreads = 0\r\n")
    with pytest.raises(InputError, match="line 3"):
        load_recipe(file)


@pytest.mark.parametrize("make", [None, Path.mkdir])
def test_a_file_that_cannot_be_read(tmp_path: Path, make: typing.Any) -> None:
    file = tmp_path / "wdp-edge.toml"
    if make:
        make(file)
    with pytest.raises(InputError, match=r"wdp-edge\.toml cannot be read"):
        load_recipe(file)


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"[model]\nname = '\xff'\n")
    with pytest.raises(InputError, match="line 2: this is not UTF-8"):
        load_recipe(tmp_path / "r.toml")


def test_merge_replaces_settings_and_adds_arguments() -> None:
    base = merge(Recipe(), {"model.args.img_size": 56, "prune.seed": 3})
    merged = merge(base, {"prune.latency_budget": "50%", "model.args.depth": 2, "prune.learn.share": 1})
    assert merged.model.args == {"img_size": 56, "depth": 2}
    assert base.model.args == {"img_size": 56}
    assert (merged.prune.seed, merged.prune.latency_budget, merged.prune.learn.share) == (3, "50%", 1.0)
    assert merge(merged, {"model.args": {}}).model.args == {}


def test_merge_calls_settings_by_the_names_given() -> None:
    with pytest.raises(InputError, match=r"^--threads must be at least 1, not 0"):
        merge(Recipe(), {"prune.threads": 0}, {"prune.threads": "--threads"})
    with pytest.raises(InputError, match=r"^prune\.thread: there is no setting .* Did you mean threads\?"):
        merge(Recipe(), {"prune.thread": 1})


def test_the_default_recipe_keeps_the_rules() -> None:
    assert merge(Recipe(), {}) == Recipe()

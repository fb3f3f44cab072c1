"""Imports run one way: no circle of files, none of folders; imports inside functions count, those for types do not."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"wdp_edge": "wdp_edge", "targets": "wdp_edge.targets", "calibration": "wdp_edge.calibration"}
MIRRORED = 0.8  # share of source files that have a test file of the same place and name


def modules() -> dict[str, Path]:
    found = {}
    for folder, package in PACKAGES.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def imported(node: ast.AST) -> Iterator[str]:
    """Dotted names that code imports when it runs, now or later."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from imported(child)


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """What each module imports of ours."""
    known = modules()

    def ours(name: str) -> str | None:
        return name if name in known else name.rpartition(".")[0] if name.rpartition(".")[0] in known else None

    made = {}
    for module, path in known.items():
        names = {ours(name) for name in imported(ast.parse(path.read_text(encoding="utf-8")))}
        made[module] = {name for name in names if name is not None and name != module}
    return made


def assert_no_circle(graph: Mapping[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


def room(module: str) -> str:
    """The folder of a module, without those inside it; "" for the top of wdp_edge."""
    _, _, rest = module.partition(".")
    folder = rest.partition(".")[0]
    return "" if folder == "__main__" else folder


def test_no_file_imports_itself_by_way_of_others(graph: dict[str, set[str]]) -> None:
    assert_no_circle(graph)


def test_no_folder_imports_itself_by_way_of_others(graph: dict[str, set[str]]) -> None:
    rooms: dict[str, set[str]] = {}
    for module, others in graph.items():
        # `python -m wdp_edge` starts the command line, which calls what wdp_edge offers.
        if module != "wdp_edge.__main__":
            rooms.setdefault(room(module), set()).update(room(other) for other in others)
    assert_no_circle({name: others - {name} for name, others in rooms.items()})


def test_the_top_level_reads_as_a_table_of_contents() -> None:
    assert len(list((ROOT / "wdp_edge").glob("*.py"))) <= 10
    assert len(list((ROOT / "targets").glob("*.py"))) <= 3


def own_test_of(source: Path) -> Path:
    """Where the tests of a source file stand: `wdp_edge/x/y.py` has `tests/x/test_y.py`."""
    folder, *inner, name = source.relative_to(ROOT).parts
    return ROOT.joinpath("tests", *(() if folder == "wdp_edge" else (folder,)), *inner, f"test_{name}")


def test_tests_mirror_the_tree() -> None:
    sources = [path for path in modules().values() if path.name != "__init__.py"]
    lacking = [str(path.relative_to(ROOT)) for path in sources if not own_test_of(path).is_file()]
    mirrored = 1 - len(lacking) / len(sources)
    assert mirrored >= MIRRORED, f"{len(lacking)} of {len(sources)} have no test file: {', '.join(sorted(lacking))}"


def test_no_test_imports_another() -> None:
    tests = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    found = {str(path): list(imported(ast.parse(text))) for path, text in tests.items()}
    assert not {path: names for path, names in found.items() if any("test_" in n.split(".")[0] for n in names)}

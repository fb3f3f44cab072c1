"""The distribution: every package is in it, nothing else lands in site-packages, and the public names resolve."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import wdp_edge
from wdp_edge.config.file import load_recipe

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PYPROJECT["project"]["version"]
MAPPED = {"targets": "wdp_edge.targets", "calibration": "wdp_edge.calibration"}

KINDS = (".py", ".j2", ".c", ".cpp", ".h")


def packages_on_disk() -> dict[str, Path]:
    """Package name to folder, from the source tree."""
    found = {}
    for top, name in {"wdp_edge": "wdp_edge", **MAPPED}.items():
        for init in (ROOT / top).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / top).parts
            found[".".join([name, *inner])] = init.parent
    return found


def test_every_folder_is_a_package_and_is_listed() -> None:
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages_on_disk())
    assert listed == sorted(listed)
    folders = {m.parent for top in ("wdp_edge", *MAPPED) for m in (ROOT / top).rglob("*.py")}
    assert folders == set(packages_on_disk().values())


def test_the_mapping_puts_targets_inside_the_namespace() -> None:
    mapping = PYPROJECT["tool"]["setuptools"]["package-dir"]
    assert {name: folder for folder, name in MAPPED.items()}.items() <= mapping.items()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the source tree."""
    setuptools = pytest.importorskip("setuptools", reason="building a wheel without network needs setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("wdp_edge", *MAPPED):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=folder / "source", capture_output=True, text=True
    )
    assert done.returncode == 0, f"setuptools {setuptools.__version__}: {done.stderr}"
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what pip would put into site-packages."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def files_in(site: Path) -> set[str]:
    return {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}


def test_the_wheel_holds_every_module_template_and_source(site: Path) -> None:
    expected = {"wdp_edge/py.typed", "wdp_edge/runners/CMakeLists.txt"}
    for package, folder in packages_on_disk().items():
        inside = package.replace(".", "/")
        expected |= {f"{inside}/{p.name}" for p in folder.iterdir() if p.suffix in KINDS}
    assert expected <= files_in(site)


def test_nothing_else_lands_in_site_packages(site: Path) -> None:
    assert {path.name for path in site.iterdir()} == {"wdp_edge", f"wdp_edge-{VERSION}.dist-info"}


def test_the_wheel_registers_what_is_declared(site: Path) -> None:
    found: dict[str, dict[str, str]] = {}
    for entry in metadata.Distribution.at(site / f"wdp_edge-{VERSION}.dist-info").entry_points:
        found.setdefault(entry.group, {})[entry.name] = entry.value
    assert found == {"console_scripts": PYPROJECT["project"]["scripts"], **PYPROJECT["project"]["entry-points"]}
    assert set(found) >= {"wdp_edge.devices", "wdp_edge.targets", "wdp_edge.tasks"}
    modules = {value.partition(":")[0].replace(".", "/") for named in found.values() for value in named.values()}
    there = files_in(site)
    assert all(f"{module}.py" in there or f"{module}/__init__.py" in there for module in modules)


def test_a_wheel_outside_the_clone_begins_the_demo(site: Path, tmp_path: Path) -> None:
    """Up to `prune`, which takes minutes: CI runs it all. Its packages are those of this environment."""
    code = (
        "import sys; from pathlib import Path\n"
        "import wdp_edge, wdp_edge.targets.onnx.target, wdp_edge.calibration.choice\n"
        "from wdp_edge.demo.run import Length, demo_project\n"
        "demo_project(Path(sys.argv[1]), Length(steps=1, images=0))\n"
        "print(wdp_edge.__file__, wdp_edge.targets.onnx.target.__file__, wdp_edge.calibration.choice.__file__)\n"
    )
    own = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "demo"], cwd=tmp_path, env=own, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(path.startswith(str(site)) for path in done.stdout.splitlines()[-1].split())
    assert load_recipe(tmp_path / "demo" / "wdp-edge.toml").model.num_classes == 10
    assert len(list((tmp_path / "demo/digits").rglob("*.png"))) == 1797


def test_installed_version_is_the_declared_one() -> None:
    assert wdp_edge.__version__ == VERSION


@pytest.mark.parametrize("name", sorted(wdp_edge.__all__))
def test_public_names_resolve(name: str) -> None:
    assert getattr(wdp_edge, name) is not None
    assert name in dir(wdp_edge)
    if name not in ("__version__", "Recipe"):
        assert callable(getattr(wdp_edge, name))
        assert not isinstance(getattr(wdp_edge, name), type(sys))


def test_report_stays_a_function_after_its_package_is_imported() -> None:
    code = (
        "import wdp_edge.report, wdp_edge, sys\n"
        "from wdp_edge.report import report\n"
        "assert wdp_edge.report is report and callable(report)\n"
        "assert sys.modules['wdp_edge.report'] is not report\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="prine"):
        _ = wdp_edge.prine

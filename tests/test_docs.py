"""The book: links and anchors lead somewhere; commands, options, settings and paths that it names exist."""

from __future__ import annotations

import ast
import functools
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer

import wdp_edge
from wdp_edge.cli import app

ROOT = Path(__file__).parents[1]
INDEX = ROOT / "docs" / "index.md"
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "recipes/README.md"))]
)
# What earlier versions measured, by the commands that they had.
PRESENT = [page for page in PAGES if page.name != "history.md"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
each_present_page = pytest.mark.parametrize("page", PRESENT, ids=lambda page: str(page.relative_to(ROOT)))

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:wdp_edge|targets|calibration|benchmarks|tests|recipes|docs)/[\w./-]+)`")


def without_code(text: str) -> str:
    return _FENCED.sub("", text)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings: words in small letters, joined by hyphens, without punctuation."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found.add(next(name for name in (slug, *(f"{slug}-{n}" for n in range(1, 100))) if name not in found))
    return found


def links(page: Path) -> Iterator[str]:
    """Those that lead to another file, or to a heading."""
    for groups in _LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        link = "".join(groups)
        if not re.match(r"[a-z]+:", link):
            yield link


def blocks(page: Path, *languages: str) -> list[str]:
    return [code for language, code in _FENCED.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """Lines of code blocks that call a program, as words without comments."""
    for code in blocks(page, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            for part in re.split(r" (?:\||&&) ", line):
                if words := shlex.split(part, comments=True):
                    yield words


@functools.cache
def command_line() -> Any:
    return typer.main.get_command(app)


def texts_of_sources() -> str:
    """All texts in the sources of devices, without what is filled in."""
    found = []
    for path in (ROOT / "wdp_edge" / "devices").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def wdp_edge_words(words: list[str]) -> list[str] | None:
    """What follows `wdp-edge`, or `python -m wdp_edge` under torchrun; None for another program."""
    if words[0].endswith("wdp-edge"):
        return words[1:]
    return words[words.index("wdp_edge") + 1 :] if "wdp_edge" in words else None


@each_page
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no {target}"
        assert not anchor or anchor in anchors(target), f"{link}: {target.name} has no such heading"


def test_every_page_can_be_reached_from_the_table_of_contents() -> None:
    reached: set[Path] = set()
    ahead = [INDEX]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        found = {(page.parent / link.partition("#")[0]).resolve() for link in links(page) if not link.startswith("#")}
        ahead += [other for other in found - reached - set(ahead) if other.suffix == ".md" and other.is_file()]
    assert not {page for page in PAGES if page.is_relative_to(INDEX.parent)} - reached


@each_page
def test_code_blocks_name_their_language(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not [language for language, _ in _FENCED.findall(text) if not language]
    assert not re.search(r"\n\n {4}\S", without_code(text)), "an indented code block is not checked: fence it"


@each_present_page
def test_commands_and_options_exist(page: Path) -> None:
    for words in commands(page):
        rest = wdp_edge_words(words)
        if rest is None:
            continue
        command = command_line()
        while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
            assert rest[0] in command.commands, f"{shlex.join(words)}: there is no such command"
            command, rest = command.commands[rest[0]], rest[1:]
        known = {name for option in command.params for name in option.opts} | {"--help"}
        asked = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert asked <= known, f"{shlex.join(words)}: there is no {', '.join(sorted(asked - known))}"


@each_present_page
def test_programs_of_the_project_exist(page: Path) -> None:
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands(page):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= made, shlex.join(words)
        for word in words:
            if re.fullmatch(r"(benchmarks|tests)/\S+\.py", word):
                assert (ROOT / word).is_file(), shlex.join(words)


@each_present_page
def test_settings_exist(page: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "wdp-edge.toml"
    for block in blocks(page, "toml"):
        if "[project]" in block or "entry-points" in block:
            continue
        recipe.write_text(block, encoding="utf-8")
        wdp_edge.load_recipe(recipe)


@each_present_page
def test_files_that_are_named_exist(page: Path) -> None:
    for name in _PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_every_formula_of_the_paper_names_what_implements_it() -> None:
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    names = re.findall(r"`(wdp_edge(?:\.\w+)+)`", text)
    assert len(names) > 20
    for name in names:
        assert pkgutil.resolve_name(module_first(name)), name
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for row in (row for table in tables for row in table.splitlines()[2:]):
        assert "`wdp_edge." in row, f"nothing implements {row}"


def module_first(name: str) -> str:
    """ "wdp_edge.learn.masks.TopK.forward" as "wdp_edge.learn.masks:TopK.forward"."""
    parts = name.split(".")
    inside = max(n for n in range(1, len(parts)) if (ROOT / Path(*parts[:n])).with_suffix(".py").exists())
    return f"{'.'.join(parts[:inside])}:{'.'.join(parts[inside:])}"


def test_errors_that_are_explained_are_raised() -> None:
    texts = texts_of_sources()
    for page in (ROOT / "docs" / "guides" / "devices").glob("*.md"):
        for cell in re.findall(r"^\| (`[^|]*`) \|", page.read_text(encoding="utf-8"), re.MULTILINE):
            for message in re.findall(r"`(… [^`]+|[A-Z][^`]+ [^`]+)`", cell):
                pieces = [piece.strip() for piece in re.split(r"…|\(signal 9\)", message)]
                assert all(piece in texts for piece in pieces), f"{page.name}: nothing says {message}"

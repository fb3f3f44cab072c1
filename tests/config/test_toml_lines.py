"""Lines of keys in TOML, held against files whose lines are known by construction."""

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from wdp_edge.config.toml_lines import key_lines

STATEMENTS = [
    ("{} = 1", 1),
    ("{} = 'a # b'  # comment", 1),
    ('{} = """\n[table]\nx = 1\n"""', 4),
    ("{} = [\n  1,\n  # two\n  2,\n]", 5),
    ("{} = {{ inner = 1, other = [1, 2] }}", 1),
    ("'{}' = true", 1),
    ("{}.dotted.key = 2", 1),
    ("[{}]", 1),
    ("[{}.'sub table']", 1),
    ("[[{}]]", 1),
    ("# {}", 1),
    ("", 1),
]


@given(st.lists(st.sampled_from(STATEMENTS), max_size=12))
@settings(deadline=None)
def test_every_key_is_found_on_its_line(chosen: list[tuple[str, int]]) -> None:
    text, line = "", 1
    table: tuple[str, ...] = ()
    expected: dict[tuple[str, ...], int] = {}
    for number, (form, height) in enumerate(chosen):
        key = f"key{number}"
        text += form.format(key) + "\n"
        if form.startswith("["):
            table = (key, "sub table") if "sub table" in form else (key, "1") if form.startswith("[[") else (key,)
            expected[(key,)] = line
            expected[table] = line
        elif form and not form.startswith("#"):
            expected[(*table, key)] = line
        line += height
    tomllib.loads(text)
    lines = key_lines(text)
    assert {path: lines.get(path) for path in expected} == expected


def test_keys_inside_inline_tables_and_dotted_keys() -> None:
    lines = key_lines("a = { b = { c = 1 } }\n\n[t]\nx.y = 1\n")
    assert lines == {
        ("a",): 1,
        ("a", "b"): 1,
        ("a", "b", "c"): 1,
        ("t",): 3,
        ("t", "x"): 4,
        ("t", "x", "y"): 4,
    }


def test_tables_of_an_array_are_numbered() -> None:
    lines = key_lines("[[b]]\nx = 1\n\n[[b]]\nx = 2\ny = 3\n")
    assert lines == {
        ("b",): 1,
        ("b", "1"): 1,
        ("b", "1", "x"): 2,
        ("b", "2"): 4,
        ("b", "2", "x"): 5,
        ("b", "2", "y"): 6,
    }

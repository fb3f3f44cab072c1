"""The report is one whole, safe, self-contained page, whatever the run holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from report_page import Page, flat
from report_run import build_run

from wdp_edge.errors import InputError
from wdp_edge.report import report

SECTIONS = {"before-after", "who-pays", "widths", "learning", "latency", "timing", "candidates", "parity", "repeat"}
PICTURES = {"widths", "learning", "recovery", "rounds", "table", "timing"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = build_run(tmp_path_factory.mktemp("runs") / "run")
    return report(run).path.read_text()


def page_of(run: Path) -> Page:
    return Page(report(run).path.read_text())


def change(path: Path, edit: Callable[[Any], None]) -> None:
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def test_the_result_names_the_page(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    before = set(run.rglob("*"))
    result = report(run)
    assert result.run == run
    assert result.path == run / "report.html"
    assert set(run.rglob("*")) - before == {result.path}


def test_the_page_needs_nothing_from_outside(finished: str) -> None:
    page = Page(finished)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "//" not in re.sub(r"\s//\s", " ", finished)
    assert "@import" not in finished
    assert all(link.startswith("#") for link in page.values("href") + page.values("xlink:href"))
    assert all(link.startswith("#") for link in re.findall(r"url\(([^)]*)\)", finished))
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "src"]


def test_ids_are_unique_and_every_reference_leads_somewhere(finished: str) -> None:
    page = Page(finished)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    wanted = page.values("href") + re.findall(r"url\(([^)]*)\)", finished)
    assert wanted
    assert {link.removeprefix("#") for link in wanted} <= set(ids)


def test_all_sections_and_pictures_are_there(finished: str) -> None:
    page = Page(finished)
    assert set(page.values("id")) >= SECTIONS
    assert finished.count("<svg ") == len(PICTURES)
    assert finished.count('role="img" aria-label="') == len(PICTURES)
    assert all(f'"wdp-{name}-' in finished for name in PICTURES)


def test_the_headline_gives_time_accuracy_and_speed(finished: str) -> None:
    text = flat(Page(finished).text)
    assert "Budget met 2.09 ms measured, 2.14 ms allowed (97.5 % of the budget)" in text
    assert "accuracy 91.65 % → 90.82 % (−0.83 points); 2.05× as fast as the dense model." in text


def test_figures_of_every_stage_are_on_the_page(finished: str) -> None:
    text = flat(Page(finished).text)
    for expected in (
        "Latency p90, measured 4.47 ms 2.15 ms −51.9 %",
        "File size 22.8 MB 12.2 MB −46.4 %",
        "Same top-1 as dense – 95.37 %",
        "11 of 12 blocks, 47 of 72 heads and 6,464 of 18,432 hidden units are kept.",
        "Widths were learned on 15,000 images in 2 min 28 s.",
        "fine-tuned on 84,480 images in 10 min 55 s",
        "✓ exit 11, chosen",
        "shrunk = exported, int8-dynamic 64 2.2e-1",
        "wdp-edge prune --latency-budget 50% --precision int8-dynamic",
        "img_size = 56",
        "AMD EPYC 9R14",
        "executorch 1.5.1",
    ):
        assert expected in text, expected
    for digest in ("1e2feb89414c343c", "795b929e9a9a80fd"):
        assert digest in text


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    one = report(build_run(tmp_path / "a" / "run")).path.read_bytes()
    settings = dict(matplotlib.rcParams)
    two = report(build_run(tmp_path / "b" / "run")).path.read_bytes()
    assert one == two
    assert dict(matplotlib.rcParams) == settings


def test_a_missed_budget_is_said_first(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    change(run / "result.json", lambda d: d["budget"].update(measured_ms=2.5, ratio=2.5 / 2.14, met=False))
    page = report(run).path.read_text()
    assert '<div class="verdict missed">' in page
    assert "Budget missed 2.50 ms measured, 2.14 ms allowed (116.8 % of the budget)" in flat(Page(page).text)


def test_a_time_that_is_not_measured_is_not_called_so(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    change(run / "result.json", lambda d: d["shipped"]["latency_ms"].update(kind="virtual"))
    text = flat(page_of(run).text)
    assert "2.09 ms virtual time, 2.14 ms allowed" in text
    assert "Latency p50, virtual" in text


def test_a_device_that_slowed_down_is_said_at_the_top(tmp_path: Path, finished: str) -> None:
    run = build_run(tmp_path / "run")
    slow = {"throttled": "its clock fell from 2400 to 1500 MHz"}
    change(
        run / "result.json", lambda d: d["shipped"]["latency_ms"].update(conditions=slow, caveat="timed by <b>X</b>")
    )
    text = flat(page_of(run).text)
    assert "Warning: the device slowed down: its clock fell from 2400 to 1500 MHz." in text
    assert "Note: timed by <b>X</b>." in text
    assert "Warning" not in flat(Page(finished).text)


def test_accuracy_may_be_unknown(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    change(run / "result.json", lambda d: [d[side].pop("accuracy") for side in ("dense", "shipped")])
    text = flat(page_of(run).text)
    assert "accuracy not measured" in text
    assert "Accuracy (top-1) – – –" in text


def test_estimates_on_memorised_images_are_marked(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    assert "by heart" not in flat(page_of(run).text)
    look = {"metric": "accuracy", "value": 1.0, "images": 256, "tried": ["a"], "memorised": True}
    change(run / "result.json", lambda d: d.update(first_look=look))
    text = flat(page_of(run).text)
    dense = json.loads((run / "result.json").read_text())["dense"]["accuracy"]
    assert f"Its accuracy is 100.00 % of training images and {100 * dense:.2f} % of validation images." in text
    assert text.count("the dense model may know by heart; see Candidates") == 2
    assert "at a temperature of" not in text
    change(run / "stages" / "select.json", lambda d: [c.update(temperature=16.0) for c in d["candidates"]])
    assert "from the dense model’s, at a temperature of 16; less is better" in flat(page_of(run).text)
    change(run / "result.json", lambda d: d["dense"].pop("accuracy"))
    text = flat(page_of(run).text)
    assert "may know them by heart: then it is surer" in text and "Its accuracy is" not in text


HOSTILE = "\"><script>alert(1)</script>&'<img src=x onerror=alert(2)>"


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    escaped = json.dumps(HOSTILE)
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(re.sub(r"name = .*", lambda _: f"name = {escaped}", recipe))
    change(run / "result.json", lambda d: d.update(target=HOSTILE, device=HOSTILE))
    change(run / "stages/select.json", lambda d: d["candidates"][0].update(name=HOSTILE))
    change(run / "stages/verify.json", lambda d: d["parity"][0].update(name=HOSTILE))
    change(
        run / "stages/learn.json",
        lambda d: [p["values"].update({f"loss {HOSTILE}": 1.0}) for p in d["curve"]],
    )

    def edit(data: dict[str, Any]) -> None:
        data["command"] = ["wdp-edge", HOSTILE]
        data["versions"] = {HOSTILE: HOSTILE}
        data["data"] = {HOSTILE: {"images": 1, "classes": 1, "fingerprint": HOSTILE}}
        data["artifacts"] = {HOSTILE: {"sha256": HOSTILE, "bytes": 1}}
        data["device"].update(model=HOSTILE, features=[HOSTILE], system=HOSTILE)

    change(run / "manifest.json", edit)
    page = page_of(run)
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "src"]
    assert page.text.count(HOSTILE) >= 10
    assert any(HOSTILE in label for label in page.values("aria-label"))


MISSING = {
    "manifest.json": "This run has no manifest.json",
    "recipe.toml": "Predicted and measured latency",
    "stages/dense.json": "This run has no record of its structure",
    "stages/learn.json": "This run has no learning stage",
    "stages/select.json": "This run has no record of its selection",
    "stages/recover.json": "This run has no recovery stage",
    "stages/measure.json": "This run has no record of the final timing",
    "stages/verify.json": "This run has no record of parity",
    "stages/table.json": "Predicted and measured latency",
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_part_is_said_and_the_rest_stays(tmp_path: Path, name: str) -> None:
    run = build_run(tmp_path / "run")
    (run / name).unlink()
    page = page_of(run)
    assert MISSING[name] in flat(page.text)
    assert set(page.values("id")) >= SECTIONS


def test_the_result_alone_is_enough(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    for name in MISSING:
        (run / name).unlink()
    page = page_of(run)
    assert "svg" not in page.tags
    assert "2.05× as fast" in page.text
    assert set(page.values("id")) >= SECTIONS


def test_widths_of_a_search_above_its_budget_are_said_not_to_be_used(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    change(run / "stages/learn.json", lambda d: d.update(cost_ms=2.4, budget_ms=2.1))
    text = flat(page_of(run).text)
    assert "They are not used: learning ended at 2.40 ms by the table, where 2.10 ms were wanted." in text


def test_a_run_without_training_says_so(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    (run / "stages/learn.json").unlink()
    change(run / "stages/recover.json", lambda d: d.update(images=0, seconds=0.0, curve=[]))
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace("images = 100000", "images = 0"))
    text = flat(page_of(run).text)
    assert "Training was off (--images 0)" in text
    assert "Recovery: fine-tuning" not in text
    assert "no learning stage" not in text


def test_the_dense_time_is_drawn_where_it_fits_and_named_where_it_does_not(tmp_path: Path, finished: str) -> None:
    assert "dense 4.29 →" in finished
    run = build_run(tmp_path / "run")
    change(run / "stages/select.json", lambda d: [r.update(dense_ms=2.2) for r in d["rounds"]])
    assert "dense 2.2 →" not in report(run).path.read_text()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.json", "{"),
        ("stages/select.json", '{"rounds": 3}'),
        ("stages/measure-1.json", '{"dense": '),  # of a file that was cut again: not on the page
        ("stages/measure-0.json", "{}"),
        ("stages/saliency.json", "["),
    ],
)
def test_a_damaged_file_is_named_and_the_old_page_stays(tmp_path: Path, name: str, content: str) -> None:
    run = build_run(tmp_path / "run")
    old = report(run).path.read_bytes()
    (run / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(name)):
        report(run)
    assert (run / "report.html").read_bytes() == old
    assert not list(run.glob(".*"))


def test_importing_the_report_does_not_import_matplotlib() -> None:
    code = (
        "import sys; from wdp_edge.report import report; "
        "print([m for m in ('matplotlib', 'torch', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reporting_does_not_need_torch(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from wdp_edge.report import report; "
        "report(Path(sys.argv[1])); print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


CONTROLS = "</td></table><script>alert(1)</script><img src=http://x/ onerror=x>\x1b[2J\x00\u202e\ud800"


def poisoned(value: Any) -> Any:
    """Every text that is not chosen from a list, with something hostile behind it."""
    if isinstance(value, dict):
        return {k: v if k in ("kind", "task", "metric", "unit") else poisoned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(v) for v in value]
    return value + CONTROLS if isinstance(value, str) else value


def test_no_text_of_a_record_becomes_markup(tmp_path: Path) -> None:
    run = tmp_path / "run"
    build_run(run)
    plain = Page(report(run).path.read_text(encoding="utf-8"))
    for path in [run / "manifest.json", run / "result.json", *(run / "stages").glob("*.json")]:
        path.write_text(json.dumps(poisoned(json.loads(path.read_text(encoding="utf-8")))))
    text = report(run).path.read_text(encoding="utf-8")
    page = Page(text)
    assert set(page.tags) <= set(plain.tags) and "script" not in page.tags and not page.values("onerror")
    assert "alert(1)" in page.text and not set(text) & set("\x1b\x00\u202e\ud800")

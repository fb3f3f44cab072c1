"""What `wdp-edge check` found, in the form that CI systems read."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from wdp_edge.errors import printable
from wdp_edge.io.files import write_text
from wdp_edge.report.units import against
from wdp_edge.runs.results import CheckedBudget, CheckResult, UnjudgedFile


def write_junit(result: CheckResult, path: Path) -> None:
    """One test case for every limit of every budget, and one for each file's closeness to its model.

    What could not be judged is an error, as JUnit calls it, and not a failure.
    """
    cases = [case for budget in result.budgets for case in _cases(budget)]
    failures = sum(len(case) for case in cases)
    cases += [_error(file) for file in result.unjudged]
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": str(len(result.unjudged))}
    suite = ElementTree.Element("testsuite", {"name": "wdp-edge check", **counts})
    suite.extend(cases)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    write_text(path, f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _cases(budget: CheckedBudget) -> list[ElementTree.Element]:
    group = f"{budget.target}.{budget.precision}.{budget.device}"
    cases = [_case(group, "verified", budget.verified, f"{budget.path.name} is too far from its model")]
    return cases + [
        _case(group, limit.name, limit.met, f"{limit.name}: {against(limit)}{'; ' + limit.note if limit.note else ''}")
        for limit in budget.limits
    ]


def _error(file: UnjudgedFile) -> ElementTree.Element:
    group = ".".join(filter(None, (file.target, file.precision, file.where)))
    case = ElementTree.Element("testcase", classname=printable(group), name="judged")
    ElementTree.SubElement(case, "error", message=printable(f"{file.state}: {file.reason} {file.hint}"))
    return case


def _case(group: str, name: str, passed: bool, message: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=printable(group), name=name)
    if not passed:
        # XML has no way to write control characters.
        ElementTree.SubElement(case, "failure", message=printable(message))
    return case

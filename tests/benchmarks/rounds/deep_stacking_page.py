"""The year of deep_stacking.py as a page: what each month's rounds did, what was kept, and two figures.

    python -P tests/benchmarks/rounds/deep_stacking_page.py --year FOLDER --name nano --out docs/results

Writes deep-stacking-NAME.svg, and the tables between NAME's markers of deep-stacking.md; the prose around them is kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

Line = Mapping[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(map(str, row))} |" for row in rows), ""]


def months_table(lines: Sequence[Line]) -> list[str]:
    """One row per attempt: the verdict, the new skill before and after, the earlier skills, what was lost, time and disk."""
    rows = []
    for line in lines:
        if not line["event"].startswith("round"):
            rows.append([line["task"], line["event"], *[""] * 6])
            continue
        suites = {each["suite"]: each for each in line.get("suites", ())}
        own = suites.get(line["task"])
        earlier = [each for each in suites.values() if each["category"] == "skill" and each is not own]
        kept = (
            f"{100 * fmean(each['before'] for each in earlier):.1f} → {100 * fmean(each['after'] for each in earlier):.1f}"
            if earlier
            else ""
        )
        learned = f"{100 * own['before']:.1f} → {100 * own['after']:.1f} (n = {own['n']})" if own else ""
        verdict = line.get("decision") or line["error"]["what"][:120]
        rows.append(
            [
                line["task"],
                line["event"],
                verdict,
                learned,
                kept,
                ", ".join(line.get("lost", ())),
                f"{line['wall_seconds']:.0f}",
                f"{line['state_mb']:.0f}",
            ]
        )
    head = ["month", "event", "verdict", "new skill, %", "earlier skills, mean %", "lost", "seconds", "state folder, MB"]
    return table(head, rows)


def interval(found: Mapping[str, Any] | None, scale: float = 100.0) -> str:
    return f"{scale * found['value']:+.1f} ({scale * found['low']:+.1f} to {scale * found['high']:+.1f})" if found else "not measured"


def audit_tables(audit: Mapping[str, Any]) -> list[str]:
    """Of the lineage at the end: transfer, each skill since it was learned, each base suite since round 0, capacity by round."""
    transfer = audit["transfer"]
    head = ["average score, %", "BWT", "forgetting", "forward transfer"]
    page = table(head, [[interval(transfer[name]) for name in ("average_accuracy", "bwt", "forgetting", "forward_transfer")]])
    skills = [each for each in audit["skills"] if not each["sealed"]]
    page += table(
        ["skill", "learned", "best", "now", "change since learned, points"],
        [[each["suite"], *(f"{100 * each[name]:.1f}" for name in ("learned", "best", "now")), interval(each["change"])] for each in skills],
    )
    metrics = {each["name"]: each["metric"] for each in audit["suites"]}
    rows = []
    for each in audit["changes"]:
        if not each["sealed"]:
            by_text = metrics[each["suite"]] == "bits_per_byte"
            scale, unit = (100.0 / each["base"], "%") if by_text else (100.0, "points")
            shown = [f"{each[name]:.3f}" if by_text else f"{100 * each[name]:.1f}" for name in ("base", "now")]
            rows.append([each["suite"], *shown, f"{interval(each['change'], scale)} {unit}"])
    page += table(["suite of the base", "base", "now", "change"], rows)
    in_lineage = [each for each in audit["rounds"] if each["in_lineage"] and each["free_share"] is not None]
    return page + table(
        ["after", "directions free, mean over layers"], [[each["label"], f"{100 * each['free_share']:.1f} %"] for each in in_lineage]
    )


def plot(audit: Mapping[str, Any], path: Path) -> None:
    """Left: every skill's score after each promoted round from its own on. Right: the base's suites, bits per byte over round 0's."""
    rows = audit["lineage_rows"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for column, suite in enumerate(audit["suites"]):
        seen = [(place, audit["matrix"][row][column]) for place, row in enumerate(rows) if audit["matrix"][row][column] is not None]
        if suite["sealed"] or not seen or (suite["category"] == "skill" and suite["learned_in"] is None):
            continue
        if suite["category"] == "skill":
            seen = [(place, value) for place, value in seen if rows[place] >= suite["learned_in"]]
            left.plot(*zip(*[(place, 100 * value) for place, value in seen], strict=True), marker=".", label=suite["name"])
        else:
            first = seen[0][1] if suite["metric"] == "bits_per_byte" else 1.0
            style = "--" if suite["metric"] == "bits_per_byte" else "-"
            right.plot(*zip(*[(place, 100 * value / first) for place, value in seen], strict=True), style, marker=".", label=suite["name"])
    left.set(title="Skills, from their own round on", xlabel="promoted rounds", ylabel="score, %", ylim=(0, 103))
    right.set(title="What the base could do (dashed: bits per byte, 100 = base)", xlabel="promoted rounds", ylabel="%")
    for axis in (left, right):
        axis.legend(fontsize=7, ncols=2)
        axis.grid(alpha=0.3)
    with mpl.rc_context({"svg.hashsalt": "skillstack"}):
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--year", type=Path, required=True, help="the folder that deep_stacking.py wrote")
    parser.add_argument("--name", required=True, help="of the markers in the page, as nano")
    parser.add_argument("--out", type=Path, required=True, help="folder of deep-stacking.md")
    options = parser.parse_args()
    lines = [json.loads(line) for line in (options.year / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]
    audit = json.loads((options.year / "audit.json").read_text(encoding="utf-8"))
    verified = json.loads((options.year / "verify.json").read_text(encoding="utf-8"))
    plot(audit, options.out / f"deep-stacking-{options.name}.svg")
    numbers = [*months_table(lines), *audit_tables(audit)]
    numbers += [
        f"`skillstack verify` at the end: {verified['files']} files, {verified['entries']} entries, {len(verified['findings'])} findings.",
        "",
    ]
    numbers += [f"![scores round by round](deep-stacking-{options.name}.svg)", ""]
    page = options.out / "deep-stacking.md"
    begin, end = f"<!-- {options.name}: begin -->", f"<!-- {options.name}: end -->"
    text = page.read_text(encoding="utf-8") if page.exists() else "# A year of rounds\n"
    if begin not in text:
        text += f"\n{begin}\n{end}\n"
    head, _, rest = text.partition(begin)
    page.write_text(f"{head}{begin}\n\n" + "\n".join(numbers) + f"{end}{rest.partition(end)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()

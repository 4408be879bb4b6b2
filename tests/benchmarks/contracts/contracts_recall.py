"""Plant secrets, personal data, near duplicates and contamination in real text; print recall and false alarms as a Markdown table.

python tests/benchmarks/contracts/contracts_recall.py --data ../shared/data --seed 0
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import string
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_contracts.config import ContractConfig
from data_contracts.privacy.personal_data import iban_is_valid, luhn
from data_contracts.validate import validate_drop

CONFIG = ContractConfig(max_dropped_fraction=1.0, max_bad_fraction=1.0)
ALNUM = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Result:
    """found of planted; alarms are rows of the same check that nobody planted, of `others` rows."""

    what: str
    planted: int
    found: int
    alarms: int
    others: int

    def row(self) -> str:
        recall, alarms = self.found / self.planted, f"{self.alarms} of {self.others} ({self.alarms / self.others:.2%})"
        return f"| {self.what} | {self.planted} | {self.found} | {recall:.3f} | {alarms} |"


def load(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def findings_of(rows: Sequence[dict[str, object]], checks: Sequence[str], suites: Sequence[Path] = ()) -> set[int]:
    """Ordinals of the rows that one of `checks` refused, from the quarantine (line n is row n - 1)."""
    with tempfile.TemporaryDirectory() as folder:
        drop = Path(folder) / "drop.jsonl"
        drop.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        validate_drop(drop, Path(folder) / "out", skill="planted", config=CONFIG, suites=suites)
        records = [json.loads(line) for line in (Path(folder) / "out" / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()]
    return {record["line"] - 1 for record in records if any(part["check"] in checks for part in record["findings"])}


def draw(source: random.Random, alphabet: str, count: int) -> str:
    return "".join(source.choices(alphabet, k=count))


def with_check_digit(source: random.Random, head: str, length: int) -> str:
    body = head + draw(source, string.digits, length - len(head) - 1)
    return next(body + digit for digit in string.digits if luhn(body + digit))


def german_iban(source: random.Random) -> str:
    account = draw(source, string.digits, 18)
    solid = next(text for check in range(2, 99) if iban_is_valid(text := f"DE{check:02d}{account}"))
    return grouped(solid) if source.random() < 0.5 else solid


def phone(source: random.Random) -> str:
    area, exchange, line = (draw(source, "2345678", 1) + draw(source, string.digits, count) for count in (2, 2, 3))
    forms = (
        f"({area}) {exchange}-{line}",
        f"{area}-{exchange}-{line}",
        f"{area}.{exchange}.{line}",
        f"+1 {area} {exchange} {line}",
        f"+49 30 {exchange}{line}",
    )
    return source.choice(forms)


def web_token(source: random.Random) -> str:
    parts = (b'{"alg":"HS256"}', b'{"sub":"%d"}' % source.randrange(10**9), source.randbytes(32))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def password(source: random.Random) -> str:
    name, sign = source.choice(("password", "API_KEY", "client_secret")), source.choice((" = ", ": ", "="))
    return f"{name}{sign}{draw(source, ALNUM, 15)}7x"


def email(source: random.Random) -> str:
    first, last, host = (draw(source, string.ascii_lowercase, count) for count in (6, 7, 8))
    return f"{first}.{last}@{host}.{source.choice(('com', 'org', 'de', 'co.uk'))}"


def grouped(digits: str) -> str:
    return " ".join(digits[place : place + 4] for place in range(0, len(digits), 4))


# Nothing that looks like a secret stands in this file: they are put together here.
SECRETS: dict[str, Callable[[random.Random], str]] = {
    "AWS access key": lambda r: "AK" + "IA" + draw(r, string.ascii_uppercase + "234567", 16),
    "GitHub token": lambda r: "ghp" + "_" + draw(r, ALNUM, 36),
    "GitLab token": lambda r: "glp" + "at-" + draw(r, ALNUM, 20),
    "Hugging Face token": lambda r: "hf" + "_" + draw(r, string.ascii_letters, 34),
    "Google API key": lambda r: "AI" + "za" + draw(r, ALNUM + "-_", 34) + "x",
    "Slack token": lambda r: "xox" + "b-" + draw(r, string.digits, 12) + "-" + draw(r, ALNUM, 24),
    "OpenAI-like key": lambda r: "s" + "k-proj-" + draw(r, ALNUM, 48),
    "Stripe key": lambda r: "sk" + "_live_" + draw(r, ALNUM, 24),
    "npm token": lambda r: "np" + "m_" + draw(r, ALNUM, 36),
    "JSON web token": web_token,
    "private key": lambda r: "-----BEGIN " + "PRIVATE KEY-----\n" + draw(r, ALNUM + "+/", 64) + "\n-----END " + "PRIVATE KEY-----",
    "password in an address": lambda r: "postgres://app:" + draw(r, ALNUM, 12) + "@db.internal:5432/main",
    "password assignment": password,
}
PERSONAL: dict[str, Callable[[random.Random], str]] = {
    "email address": email,
    "phone number": phone,
    "card number": lambda r: with_check_digit(r, r.choice(("4", "51", "6011")), 16),
    "card number in groups": lambda r: grouped(with_check_digit(r, "4", 16)),
    "IBAN": german_iban,
    "social security number": lambda r: f"{r.randint(100, 665)}-{r.randint(10, 99)}-{r.randint(1000, 9999)}",
}


def plant_in_turn(source: random.Random, row: dict[str, object], value: str) -> dict[str, object]:
    """The row with `value` between two words of its question."""
    turns = [dict(turn) for turn in row["messages"]]  # type: ignore[attr-defined]
    words = turns[0]["content"].split(" ")
    place = source.randint(1, len(words))
    turns[0]["content"] = " ".join([*words[:place], value, *words[place:]])
    return {"messages": turns}


def recall_of_forms(
    rows: list[dict[str, object]], forms: dict[str, Callable[[random.Random], str]], check: str, each: int, seed: int
) -> list[Result]:
    """Plant `each` values of every kind in rows of their own."""
    source = random.Random(seed)
    clean_alarms = findings_of(rows, [check])
    places = source.sample([place for place in range(len(rows)) if place not in clean_alarms], each * len(forms))
    kinds = [name for name in forms for _ in range(each)]
    planted = list(rows)
    for place, kind in zip(places, kinds, strict=True):
        planted[place] = plant_in_turn(source, rows[place], forms[kind](source))
    found = findings_of(planted, [check])
    hits = Counter(kind for place, kind in zip(places, kinds, strict=True) if place in found)
    others = len(rows) - len(places)
    alarms = len(found - set(places))
    return [Result(f"{check}: {kind}", each, hits[kind], alarms, others) for kind in forms]


def edit(source: random.Random, text: str, share: float, vocabulary: Sequence[str]) -> str:
    """Replace, delete or insert `share` of the words; the places are drawn at random, line ends stay."""
    lines = []
    for line in text.split("\n"):
        words = line.split(" ")
        for place in sorted(source.sample(range(len(words)), round(share * len(words))), reverse=True):
            kind = source.random()
            if kind < 0.5:
                words[place] = source.choice(vocabulary)
            elif kind < 0.75:
                del words[place]
            else:
                words.insert(place, source.choice(vocabulary))
        lines.append(" ".join(words))
    return "\n".join(lines)


def recall_of_near_duplicates(name: str, rows: list[dict[str, object]], share: float, count: int, seed: int, template_lines: int) -> Result:
    """Append edited copies of rows; the template's lines stay as they are, everything else is edited."""
    source = random.Random(seed)
    before = findings_of(rows, ["near_duplicate", "exact_duplicate"])
    vocabulary = [word for row in rows[:200] for word in row["messages"][0]["content"].split()]  # type: ignore[index]
    originals = source.sample([place for place in range(len(rows)) if place not in before], count)
    copies = []
    for place in originals:
        turns = [dict(turn) for turn in rows[place]["messages"]]  # type: ignore[attr-defined]
        lines = turns[0]["content"].split("\n")
        turns[0]["content"] = "\n".join([*lines[:template_lines], edit(source, "\n".join(lines[template_lines:]), share, vocabulary)])
        if len(turns[1]["content"].split()) > 6:
            turns[1]["content"] = edit(source, turns[1]["content"], share, vocabulary)
        copies.append({"messages": turns})
    found = findings_of([*rows, *copies], ["near_duplicate", "exact_duplicate"])
    planted = set(range(len(rows), len(rows) + count))
    return Result(f"near duplicate, {share:.0%} of words edited: {name}", count, len(found & planted), len(found - planted), len(rows))


def recall_of_contamination(name: str, rows: list[dict[str, object]], suite: Path, count: int, words: int | None, seed: int) -> Result:
    """Rows that quote `words` consecutive words of an item (all of it where None) between words of their own."""
    source = random.Random(seed)
    items = [item for item in load(suite) if words is None or len(str(item["prompt"]).split("\n")[-1].split()) >= words + 12]
    before = findings_of(rows, ["contamination"], [suite])
    places = source.sample([place for place in range(len(rows)) if place not in before], count)
    planted = list(rows)
    for place in places:
        text = str(source.choice(items)["prompt"])
        if words is not None:
            said = [word for word in text.split("\n")[-1].split()[2:] if any(char.isalnum() for char in word)]
            begin = source.randint(0, len(said) - words)
            text = " ".join(said[begin : begin + words])
        turns = [dict(turn) for turn in rows[place]["messages"]]  # type: ignore[attr-defined]
        turns[0]["content"] = text if words is None else f"{turns[0]['content']}\nSomebody also wrote this: {text}"
        planted[place] = {"messages": turns}
    found = findings_of(planted, ["contamination"], [suite])
    quoted = "the whole question" if words is None else f"{words} words quoted"
    return Result(f"contamination, {quoted}: {name}", count, len(found & set(places)), len(before), len(rows))


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data: dict[str, list[dict[str, object]]] = {}
    for name in ("agnews", "yelp", "boolq", "qqp", "dbpedia"):
        data[name] = load(asked.data / "cl15" / name / "drop.jsonl")
    data["gsm8k"] = load(asked.data / "gsm8k" / "drop.jsonl")
    results = recall_of_forms(data["agnews"], SECRETS, "secret", 50, asked.seed)
    results += recall_of_forms(data["agnews"], PERSONAL, "personal_data", 100, asked.seed)
    for name, lines in (("agnews", 1), ("yelp", 1), ("boolq", 1), ("dbpedia", 1), ("gsm8k", 0)):
        results.append(recall_of_near_duplicates(name, data[name], 0.10, 300, asked.seed, lines))
    for name in ("agnews", "gsm8k", "boolq"):
        suite = asked.data / ("gsm8k" if name == "gsm8k" else f"cl15/{name}") / "suite.jsonl"
        host = "yelp" if name != "yelp" else "agnews"
        results += [recall_of_contamination(name, data[host], suite, 200, words, asked.seed) for words in (None, 13, 16)]
    print("| planted | rows | found | recall | other rows found |\n|---|---|---|---|---|")
    print("\n".join(result.row() for result in results))


if __name__ == "__main__":
    main()

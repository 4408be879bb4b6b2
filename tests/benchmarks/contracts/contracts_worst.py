"""The worst lines that a drop can hold: validation must cost in proportion to their bytes, whatever they say.

    python tests/benchmarks/contracts/contracts_worst.py --bytes 250000 1000000

Each line stands among 60 good rows. Printed as a Markdown table: CPU seconds of one process at each size, less those of the good rows
alone, and the seconds per megabyte of the largest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.validate import validate_drop

LENIENT = ContractConfig(max_bad_fraction=1.0, max_dropped_fraction=1.0)


def says(text: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]}, ensure_ascii=False)


def repeated(piece: str) -> Callable[[int], str]:
    """A row of one text that is `piece` over and over."""
    return lambda size: says(piece * (size // len(piece.encode())))


def numbered(piece: str) -> Callable[[int], str]:
    """A row of one text in which no two pieces are equal."""
    return lambda size: says("".join(piece.format(number) for number in range(size // len(piece.format(10000)))))


def unknown_keys(size: int) -> str:
    return json.dumps({"text": "a", **{f"k{number}": 1 for number in range(size // 11)}})


def one_key_twice(size: int) -> str:
    return "{" + ", ".join(f'"k{number}": 1' for number in range(size // 11)) + ', "k7": 1}'


def last_key_twice(size: int) -> str:
    count = size // 11
    return "{" + ", ".join(f'"k{number}": 1' for number in range(count)) + f', "k{count - 1}": 1}}'


def keys_in_turns(size: int) -> str:
    extra = {f"k{number}": 1 for number in range(size // 22)}
    return json.dumps({"messages": [{"role": "user", "content": "a", **extra}, {"role": "assistant", "content": "b", **extra}]})


def many_turns(size: int) -> str:
    return json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * (size // 76)})


def many_calls(size: int) -> str:
    calls = [{"id": str(number), "function": {"name": "f", "arguments": "{}"}} for number in range(size // 65)]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": calls}, {"role": "tool", "content": "b"}]
    return json.dumps({"messages": [*turns, {"role": "assistant", "content": "c"}]})


def wrong_turns(size: int) -> str:
    return '{"messages": [' + ", ".join(["1"] * (size // 3)) + "]}"


def nested(size: int) -> str:
    return '{"text": ' + "[" * (size // 2) + "]" * (size // 2) + "}"


def wide(size: int) -> str:
    return json.dumps({"text": "a", "tools": [{"a": {"b": ["c"]}}] * (size // 22)})


WORST: dict[str, Callable[[int], str]] = {
    "100,000 unknown keys": unknown_keys,
    "a key twice, early": one_key_twice,
    "a key twice, the last of all": last_key_twice,
    "unknown keys in turns": keys_in_turns,
    "thousands of turns": many_turns,
    "thousands of tool calls": many_calls,
    "a list of numbers for messages": wrong_turns,
    "nested brackets": nested,
    "wide tools": wide,
    "escapes": lambda size: '{"text": "' + "\\u0041" * (size // 6) + '"}',
    "phone numbers": numbered("+49 170 55{:05d}, "),
    "phone numbers in brackets": numbered("(415) 867-{:04d} "),
    "card numbers": repeated("4111 1111 1111 1111 "),
    "IBANs": repeated("DE89 3704 0044 0532 0130 00 "),
    "beginnings of IBANs": repeated("DE89 "),
    "social security numbers": repeated("219-09-9999 "),
    "digits": repeated("1"),
    "digits apart": repeated("1 2 3-4.5 "),
    "zeros and groups": repeated("020 7946 "),
    "mail addresses": numbered("ann{0}@firm{0}.org "),
    "at signs": repeated("a@"),
    "dots before an at sign": repeated("a.b-c_d%"),
    "private key heads": repeated("-----BEGIN RSA PRIVATE " + "KEY-----"),
    "web token parts": repeated("eyJhbGciOiJI."),
    "web token heads": repeated("eyJ"),
    "addresses with passwords": repeated("ab://c:dd "),
    "schemes": repeated("a+b.c-d://"),
    "password without a value": repeated("my_password = "),
    "word characters before token": repeated("a_token_b_"),
    "tags": repeated("<a "),
    "open tags": repeated("<"),
    "control marks": repeated("<|im_end|>"),
    "open control marks": repeated("<|aaaa"),
    "template bars": repeated("<｜"),
    "words, all different": numbered("w{} "),
    "one word": repeated("word "),
    "lines, all different": numbered("w{}\n"),
    "blank lines": repeated("\n"),
    "white space": repeated(" "),
    "zero-width": repeated("\u200b"),
    "combining accents": repeated("e\u0301\u0327"),
    "combining accents without a letter": repeated("\u0301\u0327"),
    "one compatibility character": repeated("\ufdfa"),
    "Chinese": repeated("的電話是"),
    "look-alike letters": repeated("аеорс "),
    "emoji": repeated("😡👎"),
    "operators": repeated("<=>"),
    "refusals": repeated("I'm sorry, but "),
}


def cpu_seconds(line: str, good: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        drop = Path(folder) / "drop.jsonl"
        drop.write_text("\n".join([*good, line]) + "\n", encoding="utf-8")
        begin = time.process_time()
        with contextlib.suppress(DropError):
            validate_drop(drop, Path(folder) / "out", skill="worst", config=LENIENT)
        return time.process_time() - begin


def good_rows() -> list[str]:
    return [says(" ".join(f"word{(7 * row + place) % 997}" for place in range(40))) for row in range(60)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bytes", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    asked = parser.parse_args()
    good = good_rows()
    cpu_seconds(says("warm up"), good)
    alone = cpu_seconds(says("alone"), good)
    print("| line | " + " | ".join(f"{size:,} bytes" for size in asked.bytes) + " | s per MB |\n|---|" + "---|" * (len(asked.bytes) + 1))
    for name, make in WORST.items():
        if asked.only not in name:
            continue
        took = [max(0.0, cpu_seconds(make(size), good) - alone) for size in asked.bytes]
        print(f"| {name} | " + " | ".join(f"{each:.2f}" for each in took) + f" | {took[-1] / asked.bytes[-1] * 1e6:.1f} |", flush=True)


if __name__ == "__main__":
    main()

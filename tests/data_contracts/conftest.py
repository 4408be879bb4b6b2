"""Rows and drops that the tests of this folder share."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

_WORDS = re.findall(
    r"\w+",
    "river stone lantern market copper winter garden letter engine harbour pencil mountain violin candle bridge forest planet ribbon "
    "window travel silver thunder meadow castle pepper orchard captain mirror blanket compass village anchor pillow rocket saddle "
    "butter tunnel feather helmet cabin wagon turtle guitar basket button carpet dragon eagle farmer glacier hammer island jacket "
    "kettle ladder magnet needle oyster parrot quartz rabbit signal temple umbrella valley walnut yellow zipper acorn bamboo cactus",
)


@pytest.fixture(scope="session")
def prose() -> Callable[[int, int], str]:
    """(seed, words) -> text that no other seed gives."""

    def write(seed: int, words: int = 40) -> str:
        return " ".join(random.Random(seed).choices(_WORDS, k=words))

    return write


@pytest.fixture(scope="session")
def chat() -> Callable[[str, str], str]:
    """(question, answer) -> one line of a drop."""

    def write(question: str, answer: str) -> str:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return json.dumps({"messages": turns}, ensure_ascii=False)

    return write


@pytest.fixture(scope="session")
def good_lines(chat: Callable[[str, str], str], prose: Callable[[int, int], str]) -> list[bytes]:
    """60 rows with nothing wrong in them."""
    return [chat(f"Continue: {prose(seed, 30)}", prose(10_000 + seed, 12)).encode() for seed in range(60)]


@pytest.fixture
def write_drop(tmp_path: Path) -> Callable[..., Path]:
    """Lines -> the path of a drop."""

    def write(lines: Iterable[str | bytes], name: str = "drop.jsonl", end: bytes = b"\n") -> Path:
        path = tmp_path / "drops" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + end for line in lines))
        return path

    return write


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real text: the folder that SKILLSTACK_DATA names, or ../shared/data beside the repository."""
    root = Path(os.environ.get("SKILLSTACK_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (root / "cl15" / "agnews" / "drop.jsonl").is_file():
        pytest.skip("no real text: set SKILLSTACK_DATA to a folder with cl15/agnews/drop.jsonl")
    return root

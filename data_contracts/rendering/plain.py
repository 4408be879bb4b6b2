"""A rendered prompt as people read it: without the marks of its chat template.

The marks of the known families are taken out and the names of roles kept (`user: ...`) where there is more than one turn. It is for
showing only: what the model read is stored as it was.
"""

from __future__ import annotations

import re

_ROLES = ("system", "user", "assistant", "model", "tool", "ipython", "human")
_NAMED = re.compile(
    r"(?:<\|start_header_id\|>|<\|header_start\|>|<\|im_start\|>|<start_of_turn>|<\|start\|>|<\|start_of_role\|>)"
    rf"\s*({'|'.join(_ROLES)})\b[^\S\n]*(?:<\|end_header_id\|>|<\|header_end\|>|<\|end_of_role\|>|<\|message\|>)?\s*",
    re.IGNORECASE,
)  # <|im_start|>user, <|start_header_id|>user<|end_header_id|>, <start_of_turn>user
_ROLE = re.compile(rf"<[|｜]\s*({'|'.join(_ROLES)})\s*[|｜]>\s*", re.IGNORECASE)  # <|user|>, <｜User｜>
_INSTRUCTION = re.compile(r"\s*\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS)\]\s*|\s*<</?SYS>>\s*")
_MARK = re.compile(r"<[|｜][^<>|｜\n]{1,60}[|｜]>|</?(?:s|bos|eos|pad|end_of_turn|start_of_turn)>")
_TURN = "\x00"


def plain_prompt(text: str) -> str:
    """The prompt without marks. A single turn is its text alone; of several turns each begins with its role and a colon."""
    marked = _NAMED.sub(lambda found: f"{_TURN}{found[1].lower()}{_TURN}", text)
    marked = _ROLE.sub(lambda found: f"{_TURN}{found[1].lower()}{_TURN}", marked)
    if _INSTRUCTION.search(marked):
        marked = _INSTRUCTION.sub("\n", marked)
    first, *rest = _MARK.sub("", marked).split(_TURN)
    turns = [(rest[at], rest[at + 1].strip()) for at in range(0, len(rest) - 1, 2)]
    turns = ([("", first.strip())] if first.strip() else []) + [turn for turn in turns if turn[1]]
    if len(turns) == 1:
        return turns[0][1]
    return "\n".join(f"{role}: {said}" if role else said for role, said in turns)

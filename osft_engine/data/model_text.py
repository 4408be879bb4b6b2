"""The text settings of a saved model: the chat template that it was trained with, and where generation stops.

A candidate is used by people who never saw the config of its round. Its folder therefore holds the template with its variables, and a
generation_config.json that stops at the end of an answer, which is often not the tokenizer's end of sequence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_contracts.files import write_atomically
from data_contracts.rendering.baked import with_variables
from osft_engine.config import TrainConfig
from osft_engine.data.examples import open_renderer

_MAIN, _OTHERS = "chat_template.jinja", "additional_chat_templates"
_FOR_TOOLS = "tool_use"  # what transformers takes for rows with tools, where a model brings several templates


def write_text_settings(folder: Path, tokenizer: Any, config: TrainConfig) -> None:
    """Write them into a model folder that holds the base's files already. `tokenizer` is the base's."""
    if config.chat_template is not None or config.chat_template_kwargs:
        _write_templates(folder, tokenizer.chat_template, config)
    stop_at(folder / "generation_config.json", open_renderer(tokenizer, config).end_ids)


def _write_templates(folder: Path, own: str | dict[str, str] | None, config: TrainConfig) -> None:
    """The config's template replaces those that rows are rendered with; other named templates of the model stay as they are."""
    named = own if isinstance(own, dict) else {} if own is None else {"default": own}
    for name in ["default", *([_FOR_TOOLS] if _FOR_TOOLS in named else [])]:
        template = config.chat_template if config.chat_template is not None else named.get(name)
        if template is not None:
            path = folder / (_MAIN if name == "default" else f"{_OTHERS}/{name}.jinja")
            write_atomically(path, with_variables(template, config.chat_template_kwargs))


def stop_at(path: Path, ends: tuple[int, ...]) -> None:
    """Add the ids that end an answer to those at which `generate` stops."""
    if not path.is_file() or not ends:
        return
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    before = settings.get("eos_token_id")
    known = [] if before is None else list(before) if isinstance(before, list) else [before]
    missing = [end for end in ends if end not in known]
    if missing:
        every = [*known, *missing]
        settings["eos_token_id"] = every[0] if len(every) == 1 else every
        write_atomically(path, json.dumps(settings, indent=2, sort_keys=True) + "\n")

"""Facts about a model's text: context window, chat template, end of an answer, and that training and evaluation use the same context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_contracts.errors import RenderingError
from data_contracts.model.window import read_window
from data_contracts.rendering import TextRenderer
from data_contracts.rendering.template import TODAY
from flows.text.facts import Fact
from flows.text.renderer import open_text
from osft_engine.config import TrainConfig

_SAMPLE = {"messages": [{"role": "user", "content": "Say yes."}, {"role": "assistant", "content": "yes"}]}
_TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


def text_facts(model: Path, train: TrainConfig) -> tuple[Fact, ...]:
    """Facts from the tokenizer's files and config.json alone. Raises RenderingError if training and evaluation had different contexts,
    CheckpointError if the tokenizer cannot be loaded."""
    renderer = open_text(model, train)
    window = read_window(model)
    longest = f"{window} tokens" if window is not None else "no limit"
    facts = [Fact(name="window", value=f"{longest}; train.max_seq_len is {train.max_seq_len}")]
    if not renderer.template.exists:
        return (*facts, Fact(name="chat template", value="none: rows with messages are refused, set train.chat_template"))
    return (
        *facts,
        Fact(name="chat template", value=_template(renderer, train)),
        Fact(name="end of an answer", value=_end(renderer)),
        Fact(name="reasoning", value=" ... ".join(renderer.facts.reasoning) if renderer.facts.reasoning else "not printed by the template"),
        Fact(name="sample row", value=compare_contexts(renderer, train)),
    )


def _template(renderer: TextRenderer, train: TrainConfig) -> str:
    source = "train.chat_template" if train.chat_template is not None else "the tokenizer's own"
    given = ", ".join(f"{name}={value!r}" for name, value in train.chat_template_kwargs.items())
    prompt = "with" if renderer.facts.has_prompt else "without"
    tools = "prints tools" if _prints_tools(renderer) else "prints no tools"
    date = f"; prints {TODAY:%d %B %Y} as today's date on every day" if renderer.template.reads_the_date else ""
    return f"{source}, {prompt} a generation prompt, {tools}" + (f", with {given}" if given else "") + date


def _prints_tools(renderer: TextRenderer) -> bool:
    try:
        with_tools = renderer.text(_SAMPLE | {"tools": [_TOOL]}, "sample")
        return with_tools != renderer.text(_SAMPLE, "sample")
    except RenderingError:
        return False


def _end(renderer: TextRenderer) -> str:
    end = repr(renderer.end_text) if renderer.end_text else "not found"
    closing = renderer.facts.closing
    own = " (the template prints none: the end-of-sequence token is added)" if closing is not None and closing.added else ""
    return f"{end}{own}; generation stops at the token ids {list(renderer.end_ids)}"


def compare_contexts(renderer: TextRenderer, train: TrainConfig, row: Any = None) -> str:
    """Compare the context of an answer in training and in evaluation, token for token, on a row (default: a sample row)."""
    row = _SAMPLE if row is None else row
    asked = renderer.question(row, "sample row").context_ids
    example = renderer.render_row(row, "sample row", max_tokens=train.max_seq_len)[-1]
    trained = example.ids[: example.answers[-1].start]
    if trained != asked:
        what = f"training has {len(trained)} tokens before the answer, evaluation has {len(asked)} other ones"
        raise RenderingError("sample row", what, "set another train.chat_template")
    return f"the {len(asked)} tokens before the answer are the same in training and evaluation"

"""The one place where a row becomes tokens: for validation, training, evaluation, the audit and the explorer alike.

A row and a tokenizer go in; out come the ids, which of them count in the loss, and for each answer the ids of its prompt.
By construction an evaluation's context is the beginning of what training reads: both are the `context` of the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data_contracts.errors import RenderingError
from data_contracts.rendering.answers import AnswerText, answer_text, question_text
from data_contracts.rendering.chat import REASONING, Chat, chat_of
from data_contracts.rendering.encoding import Ids, encode, encode_after
from data_contracts.rendering.examples import Rendering, learned_example, make_rendering, together, tokenise, unmasked_example
from data_contracts.rendering.facts import TemplateFacts
from data_contracts.rendering.row_text import RowText, example_texts, missing_parts
from data_contracts.rendering.template import ChatTemplate

_WRONG_SHAPE = "has neither messages, nor prompt and completion, nor text, nor input_ids with labels of the same length"


@dataclass(frozen=True)
class Question:
    """An answer as evaluation uses it: context_ids + answer_ids is what training reads, the answer's end included.

    said: the answer as text, without its end; end: what ends it.
    """

    context_ids: Ids
    answer_ids: Ids
    context: str
    said: str
    end: str = ""


class TextRenderer:
    """Renders rows with one tokenizer, one chat template (the tokenizer's own where none is given) and that template's variables."""

    def __init__(self, tokenizer: Any, chat_template: str | None = None, chat_template_kwargs: Mapping[str, Any] | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer, chat_template, chat_template_kwargs)
        self.facts = TemplateFacts(self.template, tokenizer)

    def render_row(self, row: Mapping[str, Any], origin: str, *, unmask: bool = False, max_tokens: int) -> list[Rendering]:
        """One row as what is trained on: mostly one example, more where the template prints a turn otherwise once it is not the last.

        `unmask` counts every token in the loss, where the row does not set it itself. `max_tokens` cuts documents into pieces; a
        conversation is never cut. Raises RenderingError that names the row and, where there is one, the turn.
        """
        chat = chat_of(row, origin, unmask=unmask)
        if chat is not None:
            return self._render_chat(chat, origin)
        if isinstance(row.get("text"), str):
            return self._render_document(row["text"], origin, max_tokens)
        if isinstance(row.get("input_ids"), list) and len(row["input_ids"]) == len(row.get("labels") or ()):
            return [make_rendering(row["input_ids"], [label != -100 for label in row["labels"]], origin, "")]
        raise RenderingError(origin, _WRONG_SHAPE, "validate the drop first")

    def question(self, row: Mapping[str, Any], origin: str) -> Question:
        """The last turn of a row as evaluation uses it. Raises RenderingError where a row does not end with an answer."""
        chat = chat_of(row, origin)
        if chat is None or len(chat.messages) < 2 or chat.messages[-1]["role"] != "assistant":
            raise RenderingError(origin, "does not end with an answer after a question", "end messages with the assistant's turn")
        [found] = self._answers(chat, [len(chat.messages) - 1], origin)
        context = encode(self.tokenizer, found.context)
        answer = encode_after(self.tokenizer, found.context, context, found.answer)
        return Question(context, answer, found.context, found.said, found.end)

    def context(self, row: Mapping[str, Any], origin: str) -> tuple[Ids, str]:
        """(ids, text) of the prompt after all turns of a row: for trying a model, where no answer is known yet."""
        chat = self._chat(row, origin)
        with _named(origin):
            text = question_text(self.template, self.facts, chat.messages, chat.tools)
        return encode(self.tokenizer, text), text

    def text(self, row: Mapping[str, Any], origin: str) -> str:
        """All of a conversation as the template prints it."""
        chat = self._chat(row, origin)
        with _named(origin):
            return self.template.text(chat.messages, chat.tools)

    def row_text(self, row: Mapping[str, Any], origin: str) -> RowText:
        """What the model would read of a row, untokenised, and what of it the template leaves out."""
        chat = chat_of(row, origin)
        if chat is None:
            text = str(row.get("text", ""))
            return RowText((text,), ends=self._ends_in([text]))
        answers = self._answers(chat, self._wanted(chat), origin)
        with _named(origin):
            whole = self.template.text(chat.messages, chat.tools)
            bare = self.template.text(chat.messages) if chat.tools else ""
        own = [str(message[name]) for message in chat.messages for name in ("content", *REASONING) if message.get(name)]
        return RowText(example_texts(answers) or (whole,), tuple(missing_parts(chat, whole, bare, answers)), self._ends_in(own))

    # ------------------------------------------------------------------------------------------ how an answer ends

    @cached_property
    def end_text(self) -> str:
        """What ends an answer, as the template prints it; empty where it cannot be found."""
        return self.facts.closing.end if self.facts.closing is not None else self.facts.end_of_sequence

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Each of these ids ends an answer: the end of a turn that the template prints, if it is a token of its own, and the tokenizer's
        end of sequence."""
        found = [encode(self.tokenizer, mark) for mark in self.facts.end_marks]
        return tuple(dict.fromkeys(ids[0] for ids in found if len(ids) == 1))

    def _ends_in(self, texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(mark for mark in self.facts.end_marks if any(mark in text for text in texts))

    @property
    def reasoning_close(self) -> str:
        """What closes reasoning before the words of an answer (`</think>`); empty where the template prints no reasoning."""
        return self.facts.reasoning[1] if self.facts.reasoning is not None else ""

    # ------------------------------------------------------------------------------------------ parts

    def _chat(self, row: Mapping[str, Any], origin: str) -> Chat:
        chat = chat_of(row, origin)
        if chat is None:
            raise RenderingError(origin, "has no messages", "give a conversation")
        self._require_template(origin)
        return chat

    def _require_template(self, origin: str) -> None:
        if not self.template.exists:
            what = "has messages, and the model's tokenizer has no chat template"
            raise RenderingError(origin, what, "set train.chat_template, or train on documents ({'text'})")

    def _answers(self, chat: Chat, turns: Sequence[int], origin: str) -> list[AnswerText]:
        self._require_template(origin)
        with _named(origin):
            return [answer_text(self.template, self.facts, chat, turn) for turn in turns]

    @staticmethod
    def _wanted(chat: Chat) -> list[int]:
        """The answers that are needed: those that are learned, and all of them where every token is."""
        spoken = [index for index, message in enumerate(chat.messages) if message["role"] == "assistant"]
        return spoken if chat.unmask else [index for index in spoken if chat.learned[index]]

    def _render_chat(self, chat: Chat, origin: str) -> list[Rendering]:
        wanted = self._wanted(chat)
        if not wanted:
            text = self.text({"messages": chat.messages, "tools": list(chat.tools or ())}, origin)
            ids = encode(self.tokenizer, text)
            return [make_rendering(ids, [chat.unmask] * len(ids), origin, text)]
        answers = self._answers(chat, wanted, origin)
        pieces = [tokenise(self.tokenizer, found, self.facts.end_mark(found.end)) for found in answers]
        examples = [learned_example(group, origin) for group in together(pieces)]
        return [self._unmasked(chat, examples[-1], origin)] if chat.unmask else examples

    def _unmasked(self, chat: Chat, example: Rendering, origin: str) -> Rendering:
        with _named(origin):
            whole = self.template.text(chat.messages, chat.tools)
        after = whole[len(example.text) :] if whole.startswith(example.text) else ""  # turns behind the last answer
        more = encode_after(self.tokenizer, example.text, example.ids, after)
        skipped = [index for index, message in enumerate(chat.messages) if message["role"] == "assistant" and not chat.learned[index]]
        return unmasked_example(example, more, after, skipped)

    @property
    def start_id(self) -> int | None:
        """The token that plain text follows: the beginning of a sequence, or the end of the one before where a model has no beginning.
        lm-eval measures text after the same one (`prefix_token_id`). None where the tokenizer has neither."""
        return next((token for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) if token is not None), None)

    def _render_document(self, text: str, origin: str, max_tokens: int) -> list[Rendering]:
        """Plain text counts in every token; a long document becomes several examples, none of them cut away."""
        ids = list(self.tokenizer(text)["input_ids"])  # with the special tokens that the tokenizer itself gives a document
        first, eos = self.start_id, self.tokenizer.eos_token_id
        if first is not None and ids[:1] != [first]:
            ids.insert(0, first)  # as it is measured: else its first words are read where no evaluation reads them
        if eos is not None and (not ids or ids[-1] != eos):
            ids.append(eos)
        pieces = [ids[start : start + max_tokens] for start in range(0, len(ids), max_tokens)]
        return [make_rendering(piece, [True] * len(piece), origin, text if len(pieces) == 1 else "") for piece in pieces]


@contextmanager
def _named(origin: str) -> Iterator[None]:
    """Put the row before the turn in an error's place."""
    try:
        yield
    except RenderingError as error:
        raise RenderingError(f"{origin} {error.where}".strip(), error.what, error.way_out) from error

"""nano's tokenizer: one token for each of its words, one token for every other character.

A word's token includes the space before it, so a sentence has one token per word; strings of letters and numbers are read letter by letter,
so that a model of this size can learn the skills on strings and numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from flows.demo.text import NAMES, OPENERS, lexicon

END, PAD, UNKNOWN = "<|end|>", "<|pad|>", "<|unknown|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
MAX_LENGTH = 256

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def _alternatives(words: Sequence[str]) -> str:
    return "|".join(sorted(words, key=lambda word: (-len(word), word)))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The same vocabulary, in the same order, on every machine."""
    words, openers = lexicon(), sorted({*OPENERS, *NAMES})
    tokens = [PAD, END, UNKNOWN, *ROLES, "\n", *(chr(code) for code in range(32, 127))]
    tokens += [f" {word}" for word in words] + [word for word in openers if len(word) > 1]
    pattern = rf" (?:{_alternatives(words)})(?![A-Za-z])|(?<![A-Za-z ])(?:{_alternatives(openers)})(?![A-Za-z])|[\s\S]"
    raw = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token=UNKNOWN))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    raw.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=list(ROLES),
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer

"""Rows to text and tokens: the one renderer that validation, training, evaluation and the explorer share."""

from data_contracts.rendering.examples import Answer, Rendering
from data_contracts.rendering.renderer import Question, TextRenderer
from data_contracts.rendering.row_text import Missing, RowText

__all__ = ["Answer", "Missing", "Question", "Rendering", "RowText", "TextRenderer"]

"""Answers in tokens become as few examples as the template allows, and each answer is learned exactly once."""

from __future__ import annotations

from data_contracts.rendering.examples import Answer, Piece, learned_example, make_rendering, together, unmasked_example


def _piece(turn: int, ids: str, start: int, tail: str = "") -> Piece:
    """Ids as letters."""
    return Piece(Answer(turn, start, len(ids), ()), tuple(map(ord, ids)), tuple(map(ord, tail)), ids + tail)


def _learned(rendering_ids: tuple[int, ...], learn: tuple[bool, ...]) -> str:
    return "".join(chr(token) if keep else "." for token, keep in zip(rendering_ids, learn, strict=True))


def test_answers_that_continue_one_another_are_one_example() -> None:
    first, second = _piece(1, "qA", 1), _piece(3, "qArB", 3, "\n")
    [group] = together([first, second])
    example = learned_example(group, "row")
    assert _learned(example.ids, example.learn) == ".A.B."
    assert [answer.turn for answer in example.answers] == [1, 3]
    assert (example.text, example.loss_tokens) == ("qArB\n", 2)


def test_an_answer_that_is_printed_otherwise_later_gets_an_example_of_its_own() -> None:
    first, second, third = _piece(1, "qA", 1), _piece(3, "qarB", 3), _piece(5, "qarBsC", 5)
    groups = together([first, second, third])
    assert [[piece.answer.turn for piece in group] for group in groups] == [[1], [3, 5]]
    learned = [_learned(example.ids, example.learn) for example in (learned_example(group, "row") for group in groups)]
    assert learned == [".A", "...B.C"]


def test_without_a_mask_every_token_counts_but_the_first_and_the_skipped_answers() -> None:
    example = learned_example([_piece(1, "qA", 1), _piece(3, "qArB", 3)], "row")
    unmasked = unmasked_example(example, (ord("x"),), "x", [1])
    assert _learned(unmasked.ids, unmasked.learn) == "..rBx"
    assert [answer.turn for answer in unmasked.answers] == [3]
    assert unmasked.text == "qArBx"


def test_the_first_token_is_never_predicted() -> None:
    assert make_rendering([5, 6], [True, True], "row", "").learn == (False, True)
    assert make_rendering([], [], "row", "").learn == ()

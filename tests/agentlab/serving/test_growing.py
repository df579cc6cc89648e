from __future__ import annotations

from agentlab.serving.growing import Growing


def pieces(texts: list[str], *stops: str) -> tuple[list[str], Growing]:
    growing = Growing(stops)
    found = [growing.grown(text) for text in texts[:-1]] + [growing.grown(texts[-1], whole=True)]
    return [one for one in found if one], growing


def so_far(text: str) -> list[str]:
    return [text[:end] for end in range(1, len(text) + 1)]


def test_the_pieces_are_the_answer_each_given_once() -> None:
    found, growing = pieces(so_far("One < two, and\n[three] is more."))
    assert "".join(found) == growing.text == "One < two, and\n[three] is more."
    assert len(found) > 5 and not growing.ended


def test_a_thought_is_never_sent_nor_half_of_its_tag() -> None:
    found, _ = pieces(so_far("<think>It is a trick. </think>Four.\n<think>Or five?</think>"))
    assert "".join(found) == "Four."
    assert pieces(so_far("<think>I never come to an end"))[0] == []


def test_a_text_that_ends_the_answer_is_not_sent_nor_its_beginning() -> None:
    found, growing = pieces(so_far("One. STOP two."), "STOP", "nothing")
    assert "".join(found) == growing.text and growing.text.strip() == "One." and growing.ended
    assert growing.grown("One. STOP two. three") == ""
    found, growing = pieces(so_far("One. STO"), "STOP")
    assert "".join(found) == "One. STO" and not growing.ended


def test_half_of_a_character_waits() -> None:
    found, _ = pieces(["caf\ufffd", "café", "café!"])
    assert found == ["caf", "é", "!"]

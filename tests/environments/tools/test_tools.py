"""Tools: each proposes the calls that make sense now, and answers in the words of the game's commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments import make
from environments.errors import BadParameter, EnvironmentsError
from environments.tools import Call, LangChainTool, Seen, Tool, register_tool, tool, tool_names, unregister_tool
from environments.tools.calculator import Calculator
from environments.tools.checklist import Checklist
from environments.tools.navigator import Navigator
from environments.tools.notes import Notes
from environments.tools.sorter import Sorter, left


def seen(*told: str, commands: tuple[str, ...] = (), goal: str = "Do it.", calls: tuple[Call, ...] = ()) -> Seen:
    return Seen(goal, [Call("" if at == 0 else "go", text) for at, text in enumerate(told)], calls, commands)


MAP = "The map reads: The hall connects to the attic, cellar and shed. The attic connects to the hall and loft."


def test_a_calculator_calculates_with_the_numbers_of_the_newest_problem() -> None:
    calls = Calculator().calls(seen("A room (4 grapes, 5 pears, 6 figs, 7 plums).", "Multiply 34 and 5."))
    assert calls == ["calculate 34 + 5", "calculate 34 * 5", "calculate 34 - 5"]
    assert "calculate 22 / 11" in Calculator().calls(seen("Divide 22 by 11."))
    assert "calculate 32 / 32" in Calculator().calls(seen("Divide 32 by 32."))
    assert "calculate 1,200 - 3" in Calculator().calls(seen("Subtract 3 from 1,200."))
    assert "calculate 5 + 5" in Calculator().calls(seen("Add 5 and 5 and 3."))
    assert "calculate 3 + 4" in Calculator().calls(seen("Add 3,4."))
    assert not Calculator().calls(seen("A room with 3 doors."))


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("calculate 34 * 5", "34 * 5 = 170."),
        ("calculate 1,200 - 3", "1,200 - 3 = 1197."),
        ("calculate 1 / 3", "1 / 3 = 0.333333."),
        ("calculate -(2 + 3) * 0.1", "-(2 + 3) * 0.1 = -0.5."),
        ("calculate 6 ÷ 4", "6 ÷ 4 = 1.5."),
    ],
)
def test_a_calculator_is_exact(call: str, answer: str) -> None:
    assert Calculator().answer(call, seen()) == answer


def test_a_calculator_names_what_the_commands_have_so_many_of() -> None:
    here = seen("", commands=("take 170 tangerines", "put 170 pears in box", "take 17 figs", "take 170g of salt"))
    assert Calculator().answer("calculate 34 * 5", here) == "34 * 5 = 170: 170 tangerines, 170 pears."
    assert Calculator().answer("calculate 1 + 1", here) == "1 + 1 = 2."


@pytest.mark.parametrize(
    "expression",
    ["", "x + 1", "__import__('os')", "9 ** 9 ** 9", "1 / 0", "1e400", "9" * 99, "(" * 90, "True + 1", "1 if 1 else 2"],
)
def test_a_calculator_refuses_whatever_is_no_sum_in_a_line(expression: str) -> None:
    with pytest.raises(ValueError) as refused:
        Calculator().answer(f"calculate {expression}", seen())
    assert len(str(refused.value).splitlines()) == 1


@given(st.integers(0, 10**5), st.integers(0, 10**5))
def test_a_calculator_comes_to_what_whole_numbers_come_to(a: int, b: int) -> None:
    assert Calculator().answer(f"calculate {a} * {b} - {a}", seen()).endswith(f"= {a * b - a}.")


def test_sorting_understands_units_and_writes_things_as_commands_do() -> None:
    here = seen("", commands=("look", "take 16l of oak", "take 18ml of marble", "put 2l of gold in box", "take box"))
    assert Sorter().calls(here) == ["sort quantities"]
    assert Sorter().answer("sort quantities", here) == "From least to most: 18ml of marble, 2l of gold, 16l of oak."
    mixed = seen("", commands=("take 2kg of gold", "take 7 figs", "take 300g of salt", "take 1,000 pears"))
    assert Sorter().answer("sort quantities", mixed) == (
        "From least to most: 300g of salt, 2kg of gold. From least to most: 7 figs, 1,000 pears."
    )
    assert not Sorter().calls(seen("", commands=("take 7 figs", "look")))


def test_where_commands_name_no_quantities_those_in_sight_are_sorted() -> None:
    here = seen("A sink (35 figs, 4 grapes) and a shelf.", commands=("look", "open sink"))
    assert Sorter().answer("sort quantities", here) == "From least to most: 4 grapes, 35 figs."


def test_a_navigator_finds_ways_by_a_map_and_by_what_was_walked() -> None:
    start = "You are in the shed. West: the hall."
    assert Navigator().calls(seen(start)) == ["find way to hall"]
    here = seen(start, MAP)
    assert Navigator().calls(here) == [f"find way to {room}" for room in ("attic", "cellar", "hall", "loft")]
    assert Navigator().answer("find way to hall", here) == "To reach the hall, move west to the hall."
    far = Navigator().answer("find way to the loft", here)
    assert far == "To reach the loft, move west to the hall. 3 rooms to go."
    walked = Seen("", [Call("", "You are in the den."), Call("move north", "You are in the bath.")], (), ())
    assert Navigator().answer("find way to den", walked) == "To reach the den, move south to the den."


def test_a_navigator_takes_no_closed_door_for_a_room() -> None:
    door = "To the North you see a closed wood door."
    told = [Call("", f"You are in the shed. {door} West: the hall."), Call("move west", f"You are in the hall. {door}")]
    here = Seen("", told, (), ())
    assert Navigator().calls(here) == ["find way to shed"]


def test_a_navigator_reads_a_map_with_an_article_before_each_room() -> None:
    here = seen("You are in the hall.", "The hall connects to the attic, the cellar and the shed.")
    assert Navigator().calls(here) == [f"find way to {room}" for room in ("attic", "cellar", "shed")]


def test_a_navigator_is_done_with_any_text() -> None:
    here = seen("You are in the hall. North: the den. " + "The door " * 40_000)
    assert Navigator().calls(here) == ["find way to den"]


@pytest.mark.parametrize("call", ["find way to", "find way to moon", "find way to shed"])
def test_a_navigator_refuses_what_it_knows_no_way_to(call: str) -> None:
    with pytest.raises(ValueError):
        Navigator().answer(call, seen("You are in the shed. West: the hall."))


def test_notes_are_written_once_and_read_again() -> None:
    notes = Notes()
    assert not notes.calls(seen("A room."))
    told = [Call("", "A room."), Call("read map", "North is the hall.")]
    here = Seen("", told, (), ())
    (call,) = notes.calls(here)
    written = Call(call, notes.answer(call, here))
    later = Seen("", told, (written,), ())
    assert notes.calls(later) == ["read notes"]
    assert notes.answer("read notes", later) == "Your notes: North is the hall."
    assert notes.answer("note beware of the cat", later) == "Noted: beware of the cat"
    more = Seen("", told, (written, Call("note beware of the cat", "Noted: beware of the cat")), ())
    assert notes.answer("read notes", more) == "Your notes: beware of the cat / North is the hall."
    with pytest.raises(ValueError):
        notes.answer("read notes", here)


def test_any_langchain_tool_is_one() -> None:
    from langchain_core.tools import tool as made

    @made
    def weigh(thing: str) -> str:
        """Weigh a thing."""
        return f"The {thing} weighs\n7 g."

    @made
    def mix(a: str, b: int) -> str:
        """Mix."""
        return f"{b} of {a}"

    scale = LangChainTool(weigh, propose=lambda here: [command.split()[-1] for command in here.commands])
    assert isinstance(scale, Tool)
    assert scale.calls(seen("", commands=("take fig", "take pear"))) == ["weigh fig", "weigh pear"]
    assert scale.answer("weigh fig", seen()) == "The fig weighs 7 g."
    mixer = LangChainTool(mix, propose=lambda here: [{"b": 2, "a": "milk"}])
    (call,) = mixer.calls(seen())
    assert mixer.answer(call, seen()) == "2 of milk"
    assert list(mixer.schema) == ["a", "b"]
    with pytest.raises(ValueError):
        mixer.answer("mix milk", seen())


def test_a_tool_of_ones_own_has_a_name_that_an_id_can_have() -> None:
    with pytest.raises(BadParameter, match="calculator"):
        tool("calculater")
    with pytest.raises(EnvironmentsError):
        register_tool("calculator", Calculator)
    with pytest.raises(EnvironmentsError):
        register_tool("a+b", Calculator)
    register_tool("abacus", Calculator)
    try:
        assert "abacus" in tool_names() and isinstance(tool("abacus"), Calculator)
    finally:
        unregister_tool("abacus")
    assert "abacus" not in tool_names()


def test_sort_leaves_out_what_was_put_somewhere_and_takes_it_in_again_when_it_is_taken() -> None:
    tool = Sorter()
    commands = ["take 27g of steel", "take 37g of plastic", "take 44kg of steel"]

    def answer(*done: str) -> str:
        seen = Seen("", [Call("", "a room"), *(Call(action, "done") for action in done)], [], commands)
        assert tool.calls(seen) == ["sort quantities"]
        return tool.answer("sort quantities", seen)

    whole = "From least to most: 27g of steel, 37g of plastic, 44kg of steel."
    assert answer() == answer("take 27g of steel") == answer("examine 27g of steel") == whole
    put = ("take 27g of steel", "put 27g of steel in box")
    assert answer(*put) == "From least to most: 37g of plastic, 44kg of steel."
    assert answer(*put, "take 27g of steel") == whole
    done = ["put 27g of steel in box", "put 37g of plastic in box", "put 44kg of steel in box"]
    assert answer(*done[:2]) == "From least to most: 44kg of steel."
    over = Seen("", [Call(action, "done") for action in done], [], commands)
    assert tool.calls(over) == []
    with pytest.raises(ValueError, match="already"):
        tool.answer("sort quantities", over)
    # 7g of steel is no part of 27g of steel.
    near = Seen("", [Call("put 27g of steel in box", "")], [], ["take 7g of steel", "take 9g of wood"])
    assert len(left(near)) == 2
    near = Seen("", [Call("put 1.2l of gold in box", "")], [], ["take 2l of gold", "take 9l of wood"])
    assert len(left(near)) == 2


LIST = "Simon says, do these in order: smell pear, meow, smell pear, take fig."
DO = ("eat fig", "meow", "smell pear", "take fig")


def listing(*done: str, commands: tuple[str, ...] = DO) -> Seen:
    return Seen("Obey.", [Call("", LIST), *(Call(action, "Correct!") for action in done)], (), commands)


@pytest.mark.parametrize(
    ("done", "answer"),
    [
        ((), "Next: smell pear, then meow, then smell pear, then take fig. 0 of 4 done."),
        (("smell pear",), "Next: meow, then smell pear, then take fig. 1 of 4 done."),
        (("smell pear", "meow"), "Next: smell pear, then take fig. 2 of 4 done."),
        (("smell pear", "look", "meow", "smell pear"), "Next: take fig. 3 of 4 done."),
        (("meow",), "Next: smell pear, then meow, then smell pear, then take fig. 0 of 4 done."),
    ],
)
def test_a_checklist_keeps_the_place_in_a_list_of_commands(done: tuple[str, ...], answer: str) -> None:
    assert Checklist().calls(listing(*done)) == ["check list"]
    assert Checklist().answer("check list", listing(*done)) == answer


def test_a_long_list_is_told_piece_by_piece_and_a_piece_is_worked_off_before_the_next_is_offered() -> None:
    commands = [f"take fig {at}" for at in range(12)]
    told, calls, offered = [Call("", ", ".join(commands))], list[Call](), list[int]()
    for at, command in enumerate(commands):
        here = Seen("", told, calls, commands)
        if Checklist().calls(here):
            offered.append(at)
            calls.append(Call("check list", Checklist().answer("check list", here)))
        told.append(Call(command, "Correct!"))
    assert offered == [0, 5, 10] and calls[-1].answer == "Next: take fig 10, then take fig 11. 10 of 12 done."
    begun_anew = Seen("", [*told, Call("task", ", ".join(commands))], calls, commands)
    assert Checklist().calls(begun_anew) == ["check list"]


def test_a_checklist_is_not_offered_where_there_is_no_list_or_all_of_it_is_done() -> None:
    over = listing("smell pear", "meow", "smell pear", "take fig")
    none = [over, listing(commands=("meow", "take fig")), seen("Meow, then sit.", commands=("sit",))]
    for one in none:
        assert not Checklist().calls(one)
        with pytest.raises(ValueError, match="list"):
            Checklist().answer("check list", one)


def test_the_newest_list_counts_and_what_was_given_before_it_does_not() -> None:
    told = [Call("", LIST), Call("meow", "Now take fig, then meow"), Call("take fig", "Correct!")]
    assert Checklist().answer("check list", Seen("", told, (), ("Now take fig", *DO))).startswith("Next: Now take fig")
    told[1] = Call("meow", "Now: take fig, and then meow")
    assert Checklist().answer("check list", Seen("", told, (), DO)) == "Next: meow. 1 of 2 done."
    assert (
        Checklist().answer("check list", Seen("Do: eat fig, meow.", told[2:], (), DO)).startswith("Next: eat fig, then")
    )


@pytest.mark.parametrize(
    "text", ["Smell pear, then meow.", "smell pear and then meow", "To do: smell pear, and meow", "smell pear and meow"]
)
def test_a_checklist_reads_a_list_as_people_write_it(text: str) -> None:
    assert Checklist().answer("check list", seen(text, commands=DO)) == "Next: smell pear, then meow. 0 of 2 done."


def test_a_list_that_is_read_again_goes_on_where_it_was_and_begins_anew_once_it_is_worked_off() -> None:
    told = [Call("", LIST), Call("smell pear", "Correct!"), Call("meow", "Correct!"), Call("task", LIST)]
    assert Checklist().answer("check list", Seen("", told, (), DO)) == "Next: smell pear, then take fig. 2 of 4 done."
    told += [Call("smell pear", "Correct!"), Call("take fig", LIST)]
    assert (
        Checklist().answer("check list", Seen("", told, (), DO))
        == "Next: smell pear, then meow, then smell pear, then take fig. 0 of 4 done."
    )


def test_a_checklist_is_done_with_any_text() -> None:
    here = seen(f"Do: meow{' ' * 100_000}, take fig{', then' * 10_000}.", LIST, commands=DO)
    assert Checklist().calls(here) == ["check list"]
    assert not Checklist().calls(seen(f"meow{' ' * 200_000}then{' ' * 200_000}", commands=DO))


def test_whoever_follows_the_checklist_does_what_simon_says() -> None:
    env = make("twx/simonsays?gameLength=10,memorization=1,numDistractors=4,step_limit=12,tools=checklist")
    _, info = env.reset(seed=env.seeds("train")[0])
    told = list[str]()
    while not (info["won"] or info["lost"]):
        if not told:
            assert "check list" in info["admissible_commands"]
            answer, *_ = env.step("check list")
            told = answer.removeprefix("Next: ").split(". ")[0].split(", then ")
        _, *_, info = env.step(told.pop(0))
    env.close()
    assert info["won"], "with two calls"

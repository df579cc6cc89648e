"""Links between reflections."""

from __future__ import annotations

from memory import Database
from memory.records import Link


def test_links_are_found_from_both_ends_the_strongest_first(database: Database) -> None:
    weak, strong = Link(source="a", target="b", kind="similar", weight=0.3), Link(source="c", target="a", kind="merged")
    database.put_links([weak, strong])
    assert database.links_of("a") == [strong, weak]
    assert database.links_of("b") == [weak]
    assert database.links_of("a", kind="merged") == [strong]


def test_a_link_written_again_is_strengthened_not_doubled(database: Database) -> None:
    for weight in (0.3, 0.8):
        database.put_links([Link(source="a", target="b", kind="similar", weight=weight)])
    assert [link.weight for link in database.links_of("a")] == [0.8]
    database.drop_links("b")
    assert database.links_of("a") == []

"""The small tables keep what they are given."""

from __future__ import annotations

import numpy as np

from memory import Database


def test_work_that_is_done_is_known_by_scope_and_key(database: Database) -> None:
    assert database.journal.get("collect", "1") is None
    database.journal.put("collect", "2", {"won": True})
    database.journal.put("collect", "1", {"won": False})
    database.journal.put("collect", "2", {"won": True, "again": 1})
    database.journal.put("train", "1", {})
    assert database.journal.get("collect", "1") == {"won": False}
    assert list(database.journal.items("collect").items()) == [("2", {"won": True, "again": 1}), ("1", {"won": False})]


def test_settings_keep_any_json_value(database: Database) -> None:
    assert database.settings.get("serving", "none yet") == "none yet"
    for value in ("ad-1", None, ["ad-1", "ad-2"], {"a": 1.5}):
        database.settings.put("serving", value)
        assert database.settings.get("serving") == value


def test_rounds_and_evaluations_are_kept_in_order(database: Database) -> None:
    for put, get, all_of in (
        (database.rounds.put, database.rounds.get, database.rounds.all),
        (database.evaluations.put, database.evaluations.get, database.evaluations.all),
    ):
        put("b", {"n": 1})
        put("a", {"n": 2})
        put("b", {"n": 3})
        assert get("b") == {"n": 3}
        assert get("c") is None
        assert list(all_of().items()) == [("b", {"n": 3}), ("a", {"n": 2})]


def test_vectors_are_kept_by_model_and_content(database: Database) -> None:
    vector = np.array([0.5, -1.0], dtype=np.float32)
    database.vectors.put("mini", {"sha-1": vector})
    database.vectors.put("maxi", {"sha-1": -vector})
    found = database.vectors.get("mini", ["sha-1", "sha-2"])
    assert list(found) == ["sha-1"]
    np.testing.assert_array_equal(found["sha-1"], vector)

"""The small tables keep what they are given."""

from __future__ import annotations

import numpy as np
import pytest

from memory import Database, errors

ADAPTER = {"id": "ad-1", "parent": None, "base": "smollm2", "status": "candidate", "created_at": "2025", "path": "a/1"}


def test_work_that_is_done_is_known_by_scope_and_key(database: Database) -> None:
    assert database.journal_get("collect", "1") is None
    database.journal_put("collect", "2", {"won": True})
    database.journal_put("collect", "1", {"won": False})
    database.journal_put("collect", "2", {"won": True, "again": 1})
    database.journal_put("train", "1", {})
    assert database.journal_get("collect", "1") == {"won": False}
    assert list(database.journal_items("collect").items()) == [("2", {"won": True, "again": 1}), ("1", {"won": False})]


def test_adapters_keep_columns_and_the_rest(database: Database) -> None:
    database.put_adapter({**ADAPTER, "lineage": {"episodes": ["ep-1"]}})
    database.put_adapter({**ADAPTER, "id": "ad-2", "parent": "ad-1", "base": "other"})
    database.put_adapter({**ADAPTER, "status": "promoted", "lineage": {"episodes": ["ep-1"]}})
    assert database.get_adapter("ad-1") == {**ADAPTER, "status": "promoted", "lineage": {"episodes": ["ep-1"]}}
    assert database.get_adapter("ad-3") is None
    assert [record["id"] for record in database.list_adapters()] == ["ad-1", "ad-2"]
    assert [record["id"] for record in database.list_adapters(status="candidate")] == ["ad-2"]
    assert [record["id"] for record in database.list_adapters(base="smollm2", status="promoted")] == ["ad-1"]


def test_an_adapter_without_its_base_is_refused(database: Database) -> None:
    with pytest.raises(errors.MemoryStoreError, match="lacks base, path"):
        database.put_adapter({"id": "ad-1", "status": "candidate", "created_at": "2025"})


def test_settings_keep_any_json_value(database: Database) -> None:
    assert database.get_setting("serving", "none yet") == "none yet"
    for value in ("ad-1", None, ["ad-1", "ad-2"], {"a": 1.5}):
        database.put_setting("serving", value)
        assert database.get_setting("serving") == value


def test_rounds_and_evaluations_are_kept_in_order(database: Database) -> None:
    for put, get, all_of in (
        (database.put_round, database.get_round, database.list_rounds),
        (database.put_evaluation, database.get_evaluation, database.list_evaluations),
    ):
        put("b", {"n": 1})
        put("a", {"n": 2})
        put("b", {"n": 3})
        assert get("b") == {"n": 3}
        assert get("c") is None
        assert list(all_of().items()) == [("b", {"n": 3}), ("a", {"n": 2})]


def test_vectors_are_kept_by_model_and_content(database: Database) -> None:
    vector = np.array([0.5, -1.0], dtype=np.float32)
    database.put_vectors("mini", {"sha-1": vector})
    database.put_vectors("maxi", {"sha-1": -vector})
    found = database.get_vectors("mini", ["sha-1", "sha-2"])
    assert list(found) == ["sha-1"]
    np.testing.assert_array_equal(found["sha-1"], vector)

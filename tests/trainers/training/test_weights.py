"""A base model is known by its weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainers.config import BaseRef
from trainers.errors import MissingBase, WrongBase
from trainers.training.weights import fingerprint, locate, reference


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_a_fingerprint_follows_the_weights_and_nothing_else(folder: Path) -> None:
    before = fingerprint(folder)
    (folder / "config.json").write_text("{}")
    assert fingerprint(folder) == before
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert fingerprint(folder) != before


def test_a_folder_without_weights_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(MissingBase, match="no model weights"):
        fingerprint(tmp_path)


def test_a_base_is_found_where_it_was_or_where_it_is_said_to_be(folder: Path, tmp_path: Path) -> None:
    base = reference("tiny", folder)
    assert locate(base) == folder
    assert locate(base.model_copy(update={"path": "/nowhere"}), folder) == folder
    assert locate(BaseRef(name=str(folder), fingerprint=base.fingerprint)) == folder


def test_a_base_that_is_gone_is_an_error_that_says_where_it_was_looked_for() -> None:
    with pytest.raises(MissingBase, match=r"/nowhere.*--base"):
        locate(BaseRef(name="tiny", fingerprint="f", path="/nowhere"))


def test_other_weights_are_refused(folder: Path) -> None:
    with pytest.raises(WrongBase, match="other weights"):
        locate(BaseRef(name="tiny", fingerprint="0" * 64), folder)

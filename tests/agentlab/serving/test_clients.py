from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agentlab.errors import AgentLabError, BadConfig
from agentlab.serving.clients import FILE, Client, Clients


def test_without_clients_whoever_asks_has_the_labs_own_memory(tmp_path: Path) -> None:
    clients = Clients(tmp_path, "mine")
    assert not clients.keyed
    assert clients.who("") == clients.who("none") == Client("chat:local", "mine")
    assert not (tmp_path / FILE).exists()


def test_a_key_leads_to_its_client_and_no_other_key_does(tmp_path: Path) -> None:
    clients = Clients(tmp_path, "")
    anna, key = clients.create("anna")
    bert, other = clients.create("bert")
    assert anna == Client("chat:anna", "chat/anna") and anna.namespace != bert.namespace
    assert (clients.who(key), clients.who(other)) == (anna, bert)
    for wrong in ("", "none", key[:-1], key + "x", key.upper(), f"sha256:{key}", "\ud800"):
        assert clients.who(wrong) is None


def test_of_a_key_only_its_hash_is_kept_where_the_person_alone_can_read_it(tmp_path: Path) -> None:
    clients = Clients(tmp_path, "")
    _, key = clients.create("anna")
    kept = (tmp_path / FILE).read_text()
    assert key not in kept and key[3:] not in kept
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    (hashed,) = [line.partition("sha256:")[2].rstrip('"') for line in kept.splitlines() if "sha256:" in line]
    assert clients.who(hashed) is None, "who has read the file has no key"


def test_a_new_key_ends_the_old_one_and_keeps_the_memory(tmp_path: Path) -> None:
    clients = Clients(tmp_path, "")
    made, first = clients.create("anna")
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace("chat/anna", 'of\\\\the \\"house\\"'))
    again, second = clients.create("anna")
    assert clients.who(first) is None
    assert clients.who(second) == again == Client(made.by, 'of\\the "house"')


def test_the_file_is_read_again_when_somebody_has_changed_it(tmp_path: Path) -> None:
    serving, typing = Clients(tmp_path, ""), Clients(tmp_path, "")
    assert serving.who("") is not None
    anna, key = typing.create("anna")
    assert serving.who(key) == anna and serving.who("") is None, "from now on everybody needs a key"
    typing.create("bert")
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().partition("[anna]")[2].partition("\n\n")[2])
    assert serving.who(key) is None
    (tmp_path / FILE).write_text("")
    assert serving.keyed and serving.who("") is None, "who was shut out does not come in again without a key"
    (tmp_path / FILE).unlink()
    assert not serving.keyed and serving.who("") is not None


@pytest.mark.parametrize("name", ["", "Anna", "a b", "../x", "-a", "x" * 41, "ä", "a/b", "a\n"])
def test_a_name_that_cannot_be_a_part_of_a_namespace_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AgentLabError, match="--client"):
        Clients(tmp_path, "").create(name)
    assert not (tmp_path / FILE).exists()


ODD_NAME = f'["A b"]\nkey = "sha256:{"0" * 64}"\nnamespace = ""'


@pytest.mark.parametrize("text", ["[", '[anna]\nkey = "secret"\nnamespace = ""', "anna = 1", ODD_NAME])
def test_a_file_that_says_nothing_sensible_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises((BadConfig, AgentLabError), match=FILE):
        Clients(tmp_path, "").who("key")
    with pytest.raises((BadConfig, AgentLabError), match=FILE):
        Clients(tmp_path, "").create("bert")
    assert (tmp_path / FILE).read_text() == text

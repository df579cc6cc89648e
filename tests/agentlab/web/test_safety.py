"""Who is answered, who is refused, and what stands in the head of every answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentlab.lab import Lab
from agentlab.web import app as web
from agentlab.web.asked import Asked
from agentlab.web.page import Action, Done
from agentlab.web.safety import HEADERS, Access, Guard

SENT = {"origin": "http://127.0.0.1"}


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """An action `/note` that keeps what it was given; the only one there is."""
    given: list[Asked] = []

    def note(lab: Lab, asked: Asked) -> Done:
        given.append(asked)
        return Done(f"Noted: {asked.text('text')}", asked.text("back", "/"))

    monkeypatch.setattr(web, "ACTIONS", (Action("/note", note),))
    return given


# -- where a request comes from


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "10.0.0.1", "127.0.0.1@evil.example"],
)
def test_a_foreign_host_is_refused_so_that_no_name_can_be_bound_to_this_machine(
    host: str, show: Any, ask: Any, small_lab: Path
) -> None:
    for path in ("/", "/index.json", "/static/screens.css", "/nowhere"):
        assert ask(show(small_lab), path, host=host).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_this_machines_own_names_are_answered(host: str, show: Any, ask: Any, small_lab: Path) -> None:
    assert ask(show(small_lab), "/", host=host).status == 200


def test_the_port_of_the_host_must_be_the_servers() -> None:
    access = Access(port=8417)
    assert access.knows_host("127.0.0.1:8417") and access.knows_host("[::1]:8417")
    assert not access.knows_host("127.0.0.1:8418") and not access.knows_host("127.0.0.1")
    assert Access(port=80).knows_host("localhost")  # browsers leave this one out


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9", "http://[::1", "junk"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_foreign_origin_is_refused(
    origin: str, method: str, show: Any, ask: Any, small_lab: Path, noted: list[Asked]
) -> None:
    assert ask(show(small_lab), "/note" if method == "POST" else "/", method, origin=origin).status == 403
    assert not noted


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_here_and_take_nothing_into_their_own_pages(
    site: str, show: Any, ask: Any, small_lab: Path
) -> None:
    app = show(small_lab)
    assert ask(app, "/", sec_fetch_site=site, sec_fetch_mode="navigate").status == 200
    assert ask(app, "/index.json", sec_fetch_site=site, sec_fetch_mode="no-cors").status == 403
    assert ask(app, "/", "POST", sec_fetch_site=site, sec_fetch_mode="navigate").status == 403
    assert ask(app, "/", sec_fetch_site="same-origin", sec_fetch_mode="cors").status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"])
def test_other_methods_are_refused(method: str, show: Any, ask: Any, small_lab: Path) -> None:
    assert ask(show(small_lab), "/", method).status == 405


# -- what can be reached


TRICKS = [
    "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/..%5capp.py", "/static//etc/passwd",
    "/static/%2fetc%2fpasswd", "/static/....//app.py", "/static/%00", "/static/screens.css%00.html", "/static/",
    "/static/%c0%ae%c0%ae/app.py", "/%2e%2e/%2e%2e/etc/passwd", "//evil.example/", "/\\evil.example", "/%00", "/lab.db",
    "/labs/../lab.toml", "/static/" + "a" * 5000, "/" + "a/" * 3000, "/%ff%fe", "/{id}", "/index.json/", "/labs/",
]  # fmt: skip


@pytest.mark.parametrize("path", TRICKS)
def test_no_address_leads_to_a_file_that_is_not_a_page(path: str, show: Any, ask: Any, small_lab: Path) -> None:
    answer = ask(show(small_lab), path)
    assert answer.status in (307, 400, 404, 405), answer
    if answer.status == 307:  # at most to the same place of this server
        assert answer.headers["location"].startswith("http://127.0.0.1/")
    assert b"root:" not in answer.body and b"import " not in answer.body and b"[chat]" not in answer.body


def test_a_very_long_query_is_refused_in_a_line(show: Any, ask: Any, small_lab: Path) -> None:
    answer = ask(show(small_lab), "/?done=" + "a" * 50_000)
    assert answer.status == 400 and len(answer.body) < 10_000


def test_a_query_of_other_bytes_than_an_address_has_is_refused(show: Any, small_lab: Path) -> None:
    from starlette.testclient import TestClient

    async def bytes_in_query(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["query_string"] = b"q=\x94"
        await app(scope, receive, send)

    app = show(small_lab)
    client = TestClient(bytes_in_query, base_url="http://127.0.0.1")
    assert [client.get(path).status_code for path in ("/memory", "/memory/", "/nowhere")] == [400] * 3


def test_text_in_an_address_is_shown_as_text(show: Any, ask: Any, small_lab: Path) -> None:
    app = show(small_lab)
    for path in ("/?done=%3Cscript%3Ealert(1)%3C/script%3E", "/%3Cscript%3Ealert(1)%3C/script%3E"):
        body = ask(app, path).body
        assert b"<script>alert" not in body and b"&lt;script&gt;" in body


# -- what every answer says


@pytest.mark.parametrize(
    "path", ["/", "/index.json", "/nowhere", "/static/screens.css", "/static/nowhere.js", "/static/../x", "/broken"]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
def test_every_answer_forbids_what_could_be_misused(
    path: str, host: str, show: Any, ask: Any, small_lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "/broken":

        def broken(*_: object) -> None:
            raise RuntimeError("nobody expected this")

        monkeypatch.setattr(web, "_looked", broken)
        path = "/"
    answer = ask(show(small_lab), path, host=host)
    for name, value in HEADERS.items():
        assert answer.headers[name.lower()] == value
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_a_failure_that_nobody_expected_is_a_line_and_shows_nothing_of_the_inside(
    show: Any, ask: Any, small_lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(web, "_looked", broken)
    for path in ("/", "/index.json"):
        answer = ask(show(small_lab), path)
        assert answer.status == 500
        assert b"RuntimeError" in answer.body and b"a secret" not in answer.body and b"Traceback" not in answer.body


# -- where others can reach the server


def test_elsewhere_than_on_this_machine_nothing_is_answered_without_the_token(
    show: Any, ask: Any, small_lab: Path
) -> None:
    app = show(small_lab, host="0.0.0.0", port=8417)
    for path in ("/", "/index.json", "/static/screens.css", "/?token=", "/?token=wrong", "/?token=secret2"):
        assert ask(app, path, host="lab.example").status == 403
    for cookie in ("agentlab-8417=wrong", "agentlab-8417=", "agentlab=secret", "=;;,\x01", 'agentlab-8417="'):
        assert ask(app, "/", host="lab.example", cookie=cookie).status == 403


def test_the_token_is_kept_in_a_cookie_and_leaves_the_address(show: Any, ask: Any, small_lab: Path) -> None:
    app = show(small_lab, host="0.0.0.0", port=8417)
    answer = ask(app, "/?done=a%20b&token=secret", host="lab.example")
    assert (answer.status, answer.headers["location"]) == (303, "/?done=a+b")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    kept = cookie.partition(";")[0]
    for others in ("", 'x={"a":1}; ', "a[b]=1; ", "odd; ", '"; '):  # of other programs on the same host
        assert ask(app, "/", host="lab.example", cookie=others + kept).status == 200


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "///evil.example", "/%2f/evil.example"])
def test_the_token_leads_to_no_other_host(path: str, show: Any, ask: Any, small_lab: Path) -> None:
    target = ask(show(small_lab, host="0.0.0.0"), f"{path}?token=secret", host="lab.example").headers["location"]
    assert target.startswith("/") and not target.startswith(("//", "/\\"))


def test_a_change_from_elsewhere_needs_the_cookie_and_the_token_of_the_form(
    show: Any, post: Any, small_lab: Path, noted: list[Asked]
) -> None:
    app = show(small_lab, host="0.0.0.0")
    here = {"host": "lab.example", "origin": "http://lab.example"}
    assert post(app, "/note", {"text": "a"}, **here).status == 403
    assert post(app, "/note", {"text": "a", "token": "x"}, **here, cookie="agentlab-0=secret").status == 400
    assert not noted
    assert post(app, "/note", {"text": "a"}, **here, cookie="agentlab-0=secret").status == 303


# -- forms


def test_a_form_of_a_page_changes_something_and_leads_back_with_a_line(
    show: Any, post: Any, small_lab: Path, noted: list[Asked]
) -> None:
    answer = post(show(small_lab), "/note", {"text": "three\r\nlines\x1b[31m & more"}, **SENT)
    assert answer.status == 303
    assert answer.headers["location"] == "/?done=Noted%3A+three+lines+%26+more"
    assert noted[0].text("text").startswith("three")
    assert "token" not in noted[0].values  # it would stand in addresses that are made from what was asked


@pytest.mark.parametrize("token", ["", "old", "secret ", "sécret", "\ud800".encode(errors="replace").decode()])
def test_a_form_without_the_token_or_with_an_old_one_changes_nothing(
    token: str, show: Any, post: Any, small_lab: Path, noted: list[Asked]
) -> None:
    assert post(show(small_lab), "/note", {"token": token}, **SENT).status == 400
    assert not noted


@pytest.mark.parametrize(
    "headers",
    [
        {"content_length": "100001"},
        {"content_length": "9" * 5000},
        {"content_length": ""},
        {"content_length": "\xb2"},
        {"content_length": "-1"},
        {"content_length": "", "transfer_encoding": "chunked"},
        {"content_type": "multipart/form-data; boundary=x; charset=unicode_escape"},
        {"content_type": "text/plain"},
        {"content_type": "application/json"},
        {"content_type": ""},
    ],
)
def test_a_form_that_is_too_large_or_none_of_these_pages_is_refused(
    headers: dict[str, str], show: Any, post: Any, small_lab: Path, noted: list[Asked]
) -> None:
    assert post(show(small_lab), "/note", {"text": "a"}, **SENT, **headers).status == 400
    assert not noted


def test_what_was_ticked_several_times_is_one_value_a_line_each(
    show: Any, ask: Any, small_lab: Path, noted: list[Asked]
) -> None:
    body = b"token=secret&id=a&id=b&text=x"
    kind = "application/x-www-form-urlencoded; charset=utf-8"
    answer = ask(show(small_lab), "/note", "POST", body, content_type=kind, content_length=str(len(body)), **SENT)
    assert answer.status == 303 and noted[0].text("id") == "a\nb"


def test_a_page_is_read_and_no_form_can_be_sent_to_it_nor_an_action_read(
    show: Any, ask: Any, post: Any, small_lab: Path, noted: list[Asked]
) -> None:
    assert post(show(small_lab), "/", {}, **SENT).status == 405
    assert ask(show(small_lab), "/note").status == 405
    assert not noted


def test_a_long_line_of_what_was_done_is_cut_so_that_the_next_page_can_show_it(
    show: Any, ask: Any, post: Any, small_lab: Path, noted: list[Asked]
) -> None:
    app = show(small_lab)
    target = post(app, "/note", {"text": "ä" * 1900}, **SENT).headers["location"]
    assert ask(app, target).status == 200


@pytest.mark.parametrize("back", ["//evil.example", "/\\evil.example", "////evil.example", "https://evil.example"])
def test_a_change_leads_to_no_other_host(back: str, show: Any, post: Any, small_lab: Path, noted: list[Asked]) -> None:
    target = post(show(small_lab), "/note", {"back": back}, **SENT).headers["location"]
    assert target.startswith("/") and not target.startswith(("//", "/\\"))


async def _nothing(*_: Any) -> None: ...


def test_what_is_no_request_of_a_page_goes_by_the_guard() -> None:
    import asyncio

    asked: list[str] = []

    async def inner(scope: dict[str, Any], *_: Callable[..., Any]) -> None:
        asked.append(scope["type"])

    guard = Guard(inner, Access())  # type: ignore[arg-type]
    asyncio.run(guard({"type": "lifespan"}, _nothing, _nothing))  # type: ignore[arg-type]
    assert asked == ["lifespan"]

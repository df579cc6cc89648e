from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import agentlab.errors
import environments.errors
import memory.errors
import trainers.errors
from agentlab import Lab, LabConfig
from agentlab.cli import boundary
from agentlab.cli.boundary import Commands

RUNNER = CliRunner()


def program(error: BaseException) -> typer.Typer:
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @app.callback()
    def group() -> None: ...

    @app.command()
    def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    "error",
    [
        agentlab.errors.NotALab("x is not a lab; it has no database; make one with agentlab demo"),
        environments.errors.UnknownEnvironment("there is no environment `x`; did you mean `y`?"),
        memory.errors.NewerDatabase("x was written by a newer version; update"),
        trainers.errors.UnknownAdapter("No adapter has the id 'x'; did you mean 'y'?"),
    ],
)
def test_our_errors_are_one_line_and_exit_code_2(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTLAB_TRACEBACK", raising=False)
    result = RUNNER.invoke(program(error), ["fail"])
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("said", "code", "part"),
    [
        ("database or disk is full", sqlite3.SQLITE_FULL, "no room left on the disk"),
        ("database disk image is malformed", sqlite3.SQLITE_CORRUPT, "delete it"),
        ("disk I/O error", sqlite3.SQLITE_IOERR, "look whether the disk is full"),
    ],
)
def test_what_sqlite_says_of_checkpoints_is_one_line(said: str, code: int, part: str) -> None:
    error = sqlite3.OperationalError(said)
    error.sqlite_errorcode = code
    result = RUNNER.invoke(program(error), ["fail"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: checkpoints.db") and part in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_error_stays_on_one_line_and_drives_no_terminal() -> None:
    result = RUNNER.invoke(program(agentlab.errors.AgentLabError("a\nb\x1b[2Jc")), ["fail"])
    assert result.stderr == "error: a bc\n"


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    result = RUNNER.invoke(program(KeyboardInterrupt()), ["fail"])
    assert result.exit_code == 130
    assert result.stderr.startswith("error: interrupted")
    assert result.stderr.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    result = RUNNER.invoke(program(ZeroDivisionError("x")), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_the_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTLAB_TRACEBACK", "1")
    result = RUNNER.invoke(program(agentlab.errors.NotALab("x")), ["fail"])
    assert isinstance(result.exception, agentlab.errors.NotALab)


@pytest.mark.parametrize(
    ("number", "part"),
    [(errno.ENOSPC, "no room left"), (errno.EACCES, "not allowed"), (errno.ENOENT, "No such file")],
)
def test_refusals_of_the_system_say_what_and_why(number: int, part: str) -> None:
    import os

    result = RUNNER.invoke(program(OSError(number, os.strerror(number), "some/file")), ["fail"])
    assert result.exit_code == 2
    assert part in result.stderr
    assert "some/file" in result.stderr


def test_an_error_of_a_package_that_is_not_loaded_is_not_ours() -> None:
    assert not boundary.expected(ValueError("x"))


def test_help_and_listings_import_nothing_heavy(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    with Lab.open(lab, create=True, config=LabConfig(embedder="hashing")) as made:
        made.database.connection.execute("SELECT 1")  # makes its tables, which listing does not
    code = (
        "import sys\n"
        "from agentlab.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'peft', 'faiss', 'langgraph', 'sentence_transformers', 'numpy', 'gymnasium',"
        " 'sqlite_utils', 'pydantic', 'py4j', 'textworld', 'rich', 'scipy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
        # What a list of the memory says of each reflection's worth is made with numpy.
        f"for command in (['memory', 'list', '--lab', {str(lab)!r}], ['models']):\n"
        "    try:\n        app(command)\n    except SystemExit:\n        pass\n"
        "print('HEAVY', sorted((heavy - {'pydantic', 'rich', 'sqlite_utils', 'numpy'}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("HEAVY")] == ["HEAVY []"] * 2
    for command in ("run", "eval", "distill", "rounds", "demo", "adapters", "memory", "episodes", "replay", "play"):
        assert command in done.stdout

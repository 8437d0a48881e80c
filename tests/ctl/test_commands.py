"""inspectctl against a real daemon and a real trainer service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cell.defects import ReviewVerb
from cell.settings import Settings
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from daemon.ctl.main import hoisted, main
from tests.daemon.cells import Cell, contrast_model, running
from tests.trainer.service_support import child
from tests.web import cells

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Cell]]:
    """A running cell with two recipes, a deployed model and a filled learning store."""
    folder = tmp_path_factory.mktemp("cell")
    settings = cells.settings_in(folder)
    cells.filled(settings, candidates=4, proposals=2)
    contrast_model(folder)
    work = child("progress(5); say(kind='finished', result={'found': 3}); sys.exit(0)")
    with cells.trainer(settings, command=work), running(folder, settings=settings) as running_cell:
        running_cell.client.call("inspectd.deploy", {"model": "contrast-1", "promote": True})
        running_cell.ready()
        # The daemon's pools start their threads at the first use, and a test may leave none behind.
        running_cell.trigger("good-0")
        running_cell.status()
        running_cell.client.call("inspectd.harvest.run", {"recipe_id": "plate"})
        yield settings, running_cell


@pytest.fixture
def run(cell: tuple[Settings, Cell], capsys: pytest.CaptureFixture[str]) -> Run:
    """Run inspectctl on that cell; give exit code, stdout and stderr."""
    config = cell[0].state_dir.parent / "inspectd.toml"

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["--config", str(config), *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call


LOOKING = [
    ("status",),
    ("recipe", "list"),
    ("recipe", "show", "plate"),
    ("results", "list"),
    ("events", "list"),
    ("models",),
    ("backgrounds", "--recipe", "cover"),
    ("seeds", "list", "--recipe", "cover"),
    ("seeds", "list", "--recipe", "cover", "--state", "proposed"),
    ("review", "--recipe", "cover"),
    ("review", "history", "--recipe", "cover"),
    ("jobs", "list"),
    ("harvest", "summary", "--recipe", "plate"),
    ("keys", "list"),
    ("selftest",),
]


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_every_look_is_one_json_document_or_a_table(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    assert isinstance(json.loads(out), dict)
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert out.strip()
    assert all(line == line.rstrip() for line in out.splitlines())


def test_a_trigger_ends_with_its_verdict(run: Run) -> None:
    for part, code, outcome in (("good-1", 0, "OK"), ("bad-1", 3, "NG"), ("unknown-1", 4, "FAULT")):
        ended, out, err = run("trigger", part, "--json")
        assert (ended, err) == (code, "")
        content = json.loads(out)["ResultContent"]
        assert (content["outcome"], content["part_id"]) == (outcome, part)
        ended, out, _ = run("trigger", part)
        assert ended == code
        assert outcome in out
    job = content["job_id"]
    code, out, _ = run("results", "show", job)
    assert code == 0
    assert "FAULT" in out
    _, out, _ = run("results", "list", "--outcome", "NG", "--json")
    found = json.loads(out)["results"]
    assert found
    assert {result["ResultContent"]["outcome"] for result in found} == {"NG"}


def test_the_status_reads_like_systemctl(run: Run) -> None:
    _, out, _ = run("status")
    lines = out.splitlines()
    assert lines[0].startswith("inspectd ")
    assert "emulated cell" in lines[0]
    colons = {line.index(":") for line in lines[1:] if ": " in line}
    assert len(colons) == 1, "names are aligned at their colon"
    assert "state: Operational/Ready" in {line.strip() for line in lines}
    _, out, _ = run("--json", "status")
    assert json.loads(out)["trainer"]["running"] is None


def test_what_is_over_does_not_look_like_what_is_wrong_now(run: Run, cell: tuple[Settings, Cell]) -> None:
    conditions = cell[1].daemon.conditions
    conditions.raise_("lamp", "a lamp is weak")
    assert "  ! lamp: a lamp is weak\n" in run("status")[1]
    conditions.resolve("lamp")
    (line,) = (line for line in run("status")[1].splitlines() if "lamp" in line)
    assert line.startswith("  - lamp: a lamp is weak (over since 2")
    assert "lamp" not in "".join(run("selftest")[1:])
    run("confirm", "a new one")
    assert "lamp" not in run("status")[1]


REFUSED = [
    (("results", "show", "j99999999"), 66),
    (("recipe", "prepare", "nosuch"), 66),
    (("recipe", "show", "nosuch"), 66),
    (("recipe", "remove", "nosuch"), 66),
    (("recipe", "remove", "plate"), 1),
    (("recipe", "add", "/nonexistent.json"), 65),
    (("deploy", "nosuch"), 66),
    (("rollback", "--recipe", "plate"), 1),
    (("mode", "automatic"), 1),
    (("jobs", "show", "t99999"), 66),
    (("jobs", "cancel", "t99999"), 66),
    (("jobs", "pause", "t99999"), 66),
    (("train", "--recipe", "cover"), 77),
    (("generate", "--recipe", "cover", "--class", "nosuch"), 65),
    (("seeds", "confirm", "s000001", "scratch", "--as", "Ada Moser"), 77),
    (("seeds", "refuse", "s000001", "--as", "Ada Moser"), 77),
    (("review", "next", "--recipe", "cover", "--as", "Ada Moser"), 77),
    (("review", "accept", "c000001"), 77),
    (("results", "list", "-n", "0"), 64),
    (("report", "p-1", "maybe"), 64),
    (("generate", "--severity", "high", "--recipe", "cover"), 64),
    (("mode", "manual"), 64),
    (("logs", "sshd"), 64),
    (("nosuch",), 64),
    (("trigger",), 64),
    (("status", "--nosuch"), 64),
    (("status", "--timeout", "soon"), 64),
    (("status", "--timeout"), 64),
]


@pytest.mark.parametrize(("words", "expected"), REFUSED, ids=lambda value: str(value))
def test_a_refusal_is_one_line_and_an_exit_code(run: Run, words: tuple[str, ...], expected: int) -> None:
    code, out, err = run(*words)
    assert code == expected, err
    assert out == ""
    assert err.startswith("inspectctl: ")
    assert err.count("\n") == 1


def test_a_part_is_reported(run: Run) -> None:
    code, out, _ = run("report", "good-1", "bad", "--class", "spot", "--json")
    assert code == 0
    assert json.loads(out) == {"part_id": "good-1", "outcome": "NG"}


def test_the_state_commands_move_the_machine(run: Run, cell: tuple[Settings, Cell]) -> None:
    try:
        for words, state in (
            (("recipe", "unprepare"), "Operational/Initialized"),
            (("recipe", "prepare", "plate"), "Operational/Ready"),
            (("halt", "--cause", "lunch"), "Halted"),
            (("reset",), "Preoperational"),
            (("mode",), "Operational/Initialized"),
        ):
            code, _, err = run(*words)
            assert (code, err) == (0, "")
            assert cell[1].status()["state"]["name"] == state
            if state == "Halted":
                _, _, err = run("recipe", "prepare", "plate")
                assert err.endswith("inspectctl reset, then inspectctl mode automatic\n"), "as it is typed here"
        assert run("confirm", "seen")[0] == 0
    finally:
        cell[1].client.call("PrepareRecipe", {"RecipeId": "plate"})


def test_a_recipe_is_shown_as_it_can_be_added(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("recipe", "show", "plate")
    recipe = json.loads(out)
    file = tmp_path / "next.json"
    file.write_text(json.dumps(recipe | {"recipe_id": "plate-two"}))
    assert run("recipe", "add", str(file))[0] == 0
    _, out, _ = run("recipe", "list", "--json")
    assert "plate-two" in {entry["RecipeId"] for entry in json.loads(out)["recipes"]}
    assert run("recipe", "remove", "plate-two") == (0, "removed plate-two; its results and pictures stay\n", "")
    assert run("recipe", "remove", "plate-two")[0] == 66
    file.write_text(json.dumps(recipe | {"colour": "blue"}))
    code, _, err = run("recipe", "add", str(file))
    assert code == 65
    assert "colour" in err


def test_events_follow_from_any_number_without_a_gap(run: Run) -> None:
    for part in ("good-8", "good-9"):
        assert run("trigger", part)[0] == 0
    _, out, _ = run("events", "list", "--json")
    last = json.loads(out)["last_sequence"]
    code, out, _ = run("events", "follow", "--since", str(last - 6), "--count", "6", "--json")
    assert code == 0
    assert [json.loads(line)["sequence"] for line in out.splitlines()] == list(range(last - 5, last + 1))


def test_a_job_is_waited_for(run: Run) -> None:
    code, out, err = run("calibrate", "--recipe", "cover", "--wait", "--json")
    assert code == 0, err
    job = json.loads(out)["job"]
    assert (job["state"], job["result"]) == ("done", {"found": 3})
    code, out, _ = run("calibrate", "--recipe", "cover")
    job_id = out.strip()
    assert code == 0
    code, out, err = run("jobs", "follow", job_id)
    assert code == 0, err
    assert "found" in out
    assert run("jobs", "show", job_id)[0] == 0
    code, _, err = run("jobs", "resume", job_id)
    assert code == 1
    assert job_id in err


def test_accepted_candidates_are_exported(run: Run, cell: tuple[Settings, Cell], tmp_path: Path) -> None:
    assert run("export", str(tmp_path / "set"), "--recipe", "cover")[0] == 65, "nobody accepted one yet"
    with LearningStore(StateDir(cell[0].state_dir)) as store:
        candidate = store.candidates.list("cover")[0].candidate.candidate_id
        token = store.gate.displayed(candidate, "Ada Moser")
        store.gate.decide(candidate, ReviewVerb.ACCEPT, reviewer="Ada Moser", is_person=True, token=token)
    code, out, err = run("export", str(tmp_path / "set"), "--recipe", "cover", "--json")
    assert code == 0, err
    assert json.loads(out)["files"]
    assert (tmp_path / "set").is_dir()


def test_harvest_looks_through_the_archive(run: Run, cell: tuple[Settings, Cell]) -> None:
    code, out, err = run("harvest", "--recipe", "plate", "--json")
    assert code == 0, err
    assert isinstance(json.loads(out), dict)


def test_global_options_may_stand_anywhere() -> None:
    given = ["trigger", "p", "--json", "--timeout", "3", "--config=x", "--", "--json"]
    assert hoisted(given) == ["--json", "--timeout", "3", "--config=x", "trigger", "p", "--", "--json"]


def test_keys_are_made_once_and_given_out(run: Run, tmp_path: Path) -> None:
    keys, plc = tmp_path / "keys", tmp_path / "plc"
    assert run("keys", "create", "--folder", str(keys))[0] == 0
    assert (keys / "server.secret").stat().st_mode & 0o777 == 0o600
    code, _, err = run("keys", "create", "--folder", str(keys))
    assert code == 65
    assert "exists already" in err
    assert run("keys", "add", "plc-3", str(plc), "--folder", str(keys))[0] == 0
    _, out, _ = run("keys", "list", "--folder", str(keys), "--json")
    assert json.loads(out) == {"clients": ["local", "plc-3"]}
    assert (plc / "server.key").read_text() == (keys / "server.key").read_text()


def test_a_selftest_tells_what_is_wrong(run: Run, cell: tuple[Settings, Cell]) -> None:
    assert run("selftest")[0] == 0
    assert cell[0].state_dir.is_dir()


def test_nobody_at_home_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells.settings_in(tmp_path)
    config = ["--config", str(tmp_path / "inspectd.toml"), "--timeout", "0.1"]
    for words, unit in (
        (("status",), "inspectd"),
        (("jobs", "list"), "inspectd-trainer"),
        (("deploy", "m"), "inspectd"),
    ):
        assert main([*config, *words]) == 75
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert f"(systemctl status {unit})" in err
    assert main([*config, "selftest", "--json"]) == 1
    checks: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["checks"]
    assert [check["check"] for check in checks if not check["ok"]] == ["state directory", "daemon", "trainer"]
    assert main(["--config", str(tmp_path / "none.toml"), "status"]) == 78
    assert capsys.readouterr().err.startswith("inspectctl: can't read the settings file")
    (tmp_path / "inspectd.toml").write_text("colour = 1\n")
    assert main([*config, "status"]) == 78
    assert "colour" in capsys.readouterr().err


def test_help_is_there_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    names = [line.split()[0] for line in text.partition("Commands:")[2].splitlines() if line.startswith("  ")]
    assert {"status", "trigger", "recipe", "harvest", "calibrate", "generate", "review", "train"} <= set(names)
    for name in names:
        if name.isalpha():
            assert main([name, "--help"]) == 0
            assert "Usage" in capsys.readouterr().out
    assert main([]) == 64

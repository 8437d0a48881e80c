"""Settings: the file, the environment, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cell import settings
from cell.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "inspectd.toml"
    path.write_text(text)
    return path


def test_environment_wins_over_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, 'cell_name = "press-4"\n[camera]\ndriver = "genicam"\nframe_timeout_s = 1.5\n')
    monkeypatch.setenv("INSPECTD_CAMERA__DRIVER", "pylon")
    loaded = settings.load(path)
    assert loaded.cell_name == "press-4"
    assert loaded.camera.driver == "pylon"
    assert loaded.camera.frame_timeout_s == 1.5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('colour = "red"', "colour"),
        ('[camera]\ndrivr = "pylon"', "camera.drivr"),
        ('[camera]\ndriver = "webcam"', "camera.driver"),
        ("[web]\nport = 70000", "web.port"),
        ("not toml at all", "TOML"),
    ],
)
def test_a_wrong_file_is_one_sentence_that_names_the_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.load(_write(tmp_path, text))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_named_file_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="check the path"):
        settings.load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("variable", ["INSPECTD_CAMRA__DRIVER", "INSPECTD_COLOUR", "INSPECTD_CAMERA__DRIVR"])
def test_a_misspelt_variable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "pylon")
    with pytest.raises(ConfigurationError):
        settings.load(_write(tmp_path, ""))


def test_a_section_that_is_no_json_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECTD_WEB", "8090")
    with pytest.raises(ConfigurationError, match="web"):
        settings.load()
    monkeypatch.setenv("INSPECTD_WEB", "port=8090")
    with pytest.raises(ConfigurationError, match="single keys"):
        settings.load()


def test_the_committed_schema_is_the_one_of_the_code() -> None:
    committed = json.loads((ROOT / "config" / "settings.schema.json").read_text())
    assert committed == settings.Settings.model_json_schema(), "run: make schema"


@pytest.mark.parametrize("variable", ["INSPECTD_CELL_NAME__FOO", "INSPECTD_MINIMUM_FREE_MB__A", "inspectd_colour"])
def test_no_environment_variable_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigurationError, match=variable):
        settings.load(_write(tmp_path, ""))

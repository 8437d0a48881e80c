"""``inspectctl``: the entry point, its global options and the one place where errors become lines and exit codes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cell.errors import InspectdError
from daemon.ctl import (
    admin,
    calibration,
    camera,
    deployment,
    folders,
    gap,
    jobs,
    learning,
    light,
    line,
    process,
    recipes,
    results,
    review,
    seeds,
    sim,
    watch,
)
from daemon.ctl.doctor import commands as doctor
from daemon.ctl.session import Session

#: sysexits.h: the command line was wrong.
EX_USAGE = 64
_HELP = """Look at and steer one inspection cell.

--json, --config FILE and --timeout SECONDS may stand anywhere on the line. --json writes one JSON document to stdout.
Exit codes and examples: docs/administration.md."""

app = typer.Typer(
    name="inspectctl",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_LEARNING = (learning, seeds, folders, calibration, process, gap, review, jobs)
for _module in (line, recipes, results, *_LEARNING, deployment, camera, light, sim, doctor, admin):
    _module.register(app)
watch.register(camera.group)

# typer carries its own copy of click from some version on: the base of its errors is found from one that it exports.
_USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


#: What a PLC sends, and what a person types for it.
_TYPED = {
    "SelectModeAutomatic": "mode automatic",
    "PrepareRecipe": "recipe prepare",
    "UnprepareRecipe": "recipe unprepare",
    "ConfirmAll": "confirm",
    "Reset": "reset",
}


@app.callback()
def options(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file; default $INSPECTD_CONFIG or /etc.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.05, help="Seconds to wait for an answer.")] = None,
) -> None:
    """Take the global options."""
    context.obj = Session(config=config, timeout_s=timeout, as_json=as_json)
    context.call_on_close(context.obj.close)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Each error is one line on stderr."""
    given = hoisted(list(sys.argv[1:] if arguments is None else arguments))
    try:
        code = app(given, prog_name="inspectctl", standalone_mode=False)
        sys.stdout.flush()
    except InspectdError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # Whoever read us has seen enough (`| head`); the interpreter must not complain about it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(f"{error.format_message()}\n")  # type: ignore[attr-defined]
            return EX_USAGE
        return _fail(f"{_sentence(error)}; see inspectctl --help", EX_USAGE)
    except typer.Abort:
        return _fail("stopped", 130)
    return code if isinstance(code, int) else 0


def hoisted(arguments: list[str]) -> list[str]:
    """Move the global options before the command, so that they may stand anywhere before a ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments[:end])
    for word in words:
        if word == "--json" or word.startswith(("--config=", "--timeout=")):
            front.append(word)
        elif word in {"--config", "--timeout"}:
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            rest.append(word)
    return front + rest + arguments[end:]


def _sentence(error: Exception) -> str:
    text = str(getattr(error, "format_message", lambda: error)())
    first = " ".join(text.split()).rstrip(".")
    return first[:1].lower() + first[1:] if first else "the command line is incomplete"


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"inspectctl: {_at_the_prompt(' '.join(message.split()))}\n")
    return code


def _at_the_prompt(message: str) -> str:
    """Name the way out as it is typed here: the daemon's sentences name the commands that a PLC sends."""
    what, separator, way_out = message.rpartition("; ")
    for command, typed in _TYPED.items():
        way_out = re.sub(rf"\b{command}\b", f"inspectctl {typed}", way_out)
    return f"{what}{separator}{way_out}"


if __name__ == "__main__":
    sys.exit(main())

"""Settings as options of a command, made from the one table in `engine.config`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec

import typer

from engine.config import BY_NAME, CONFIG_VARIABLE, Loaded, Setting, load

P = ParamSpec("P")
CONFIG_FLAG: Final = "config"
PANEL: Final = "Settings"


def with_settings(
    *names: str, help_texts: Mapping[str, str] | None = None, like: Callable[..., None] | None = None
) -> Callable[[Callable[Concatenate[Loaded, P], None]], Callable[..., None]]:
    """Give a command an option for each of these settings (all of them without names), and `--config`.

    The command's first argument is what `engine.config.load` made of flags, variables and file. ConfigError goes up.
    `help_texts` say what a setting means to this command, where that is not what it means to the engine. `like` is the function
    whose name, text and other parameters the command has, when that is another one.
    """
    settings = [BY_NAME[name] for name in names or BY_NAME]
    texts = help_texts or {}

    def decorate(command: Callable[Concatenate[Loaded, P], None]) -> Callable[..., None]:
        @wraps(like or command)
        def run(*args: Any, **options: Any) -> None:
            flags = {setting.name: options.pop(setting.name) for setting in settings}
            config: Path | None = options.pop(CONFIG_FLAG)
            command(load(flags, os.environ, config), *args, **options)

        own = list(inspect.signature(like or command, eval_str=True).parameters.values())[1:]
        parameters = [
            *own,
            *(_option(setting, texts.get(setting.name, setting.help)) for setting in settings),
            _config_option(),
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__  # else its annotations would be read instead
        return run

    return decorate


def _option(setting: Setting, text: str) -> inspect.Parameter:
    help_text = f"{text} [{setting.variable}; default: {setting.shown_default}]"
    annotation = Annotated[
        str | None,
        typer.Option(setting.flag, help=help_text, show_default=False, metavar="TEXT", rich_help_panel=PANEL),
    ]
    return _keyword(setting.name, annotation)


def _config_option() -> inspect.Parameter:
    help_text = f"A TOML file with settings under the same names. [{CONFIG_VARIABLE}]"
    annotation = Annotated[
        Path | None, typer.Option("--config", help=help_text, show_default=False, metavar="FILE", rich_help_panel=PANEL)
    ]
    return _keyword(CONFIG_FLAG, annotation)


def _keyword(name: str, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

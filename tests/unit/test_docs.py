"""What the pages say is so: links, files, commands, settings and code."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.pages import FENCE, NAMES, ROOT, blocks, example_files, prose
from visavis import __version__
from visavis.cli.main import app
from visavis.config import plain
from visavis.extract.table import EXTRACTORS
from visavis.models import MODELS, config_class
from visavis.recipes.recipe import Recipe, load_recipe, parse_recipe

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:src|tests|docs|recipes|benchmarks)/[\w./-]*)`")
TABLE = re.compile(r"<!-- fields: ([\w.]+):(\w+) -->\n(.*?)(?:\n\n|\Z)", re.DOTALL)

every_page = pytest.mark.parametrize("name", NAMES)


def commands(program: str) -> list[str]:
    lines = (line for block in blocks("console") for line in block.text.splitlines())
    return sorted({line for line in lines if line.startswith(f"{program} ")})


@every_page
def test_links_lead_to_files_and_headings_that_exist(name: str) -> None:
    for target in LINK.findall(prose(name)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, heading = target.partition("#")
        page = (ROOT / name).parent / path if path else ROOT / name
        assert page.exists(), target
        if heading:
            assert heading in headings(page), target


def headings(page: Path) -> set[str]:
    lines = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


def test_files_named_in_the_pages_exist() -> None:
    to_be = {*example_files(), "recipes/dvsa/flickr8k.yaml"}
    named = {path for name in NAMES for path in NAMED_FILE.findall(prose(name))}
    assert len(named) > 25
    assert not [path for path in named - to_be if "NAME" not in path and not (ROOT / path).exists()]


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = set(LINK.findall(prose("docs/index.md")))
    assert {name for name in NAMES if name.startswith("docs/")} <= {
        "docs/index.md",
        *(f"docs/{target}" for target in listed),
    }


def parsed(command: str) -> dict[str, Any]:
    """The parameters of a `visavis` command; one that would be refused raises."""
    words = shlex.split(command, comments=True)[1:]
    verb: Any = typer.main.get_command(app)
    while hasattr(verb, "commands"):
        # `visavis explain MODEL` leaves the usual verb of the group out.
        usual = "" if words[0] in verb.commands else getattr(verb, "default", "")
        verb = verb.commands[usual or words.pop(0)]
    found: dict[str, Any] = verb.make_context(verb.name, words).params
    return found


@pytest.mark.parametrize("command", commands("visavis"))
def test_commands_of_the_pages_are_understood(command: str) -> None:
    parameters = parsed(command)
    if "recipe" in parameters:
        load_recipe(ROOT / parameters["recipe"], parameters["overrides"] or ())


def test_commands_are_looked_at() -> None:
    assert len(commands("visavis")) >= 15
    with pytest.raises(Exception, match="No such option"):
        parsed("visavis search 'a dog' --model M --colour red")


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    inline = {word for name in NAMES for word in re.findall(r"`make (\w+)`", prose(name))}
    targets = inline | {shlex.split(line, comments=True)[1] for line in commands("make")}
    assert {"demo", "test", "results"} <= targets
    assert not [target for target in targets if f"\n{target}:" not in makefile]


def test_the_page_on_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path / "cache"))
    running = [b for b in blocks("python") if b.page == "docs/python.md" and "# run\n" in b.text]
    assert len(running) >= 10
    names: dict[str, Any] = {}
    for block in running:
        code = compile("\n" * block.line + block.text, str(ROOT / block.page), "exec")
        exec(code, names)
    assert (tmp_path / "sheet.html").stat().st_size > 10_000


def test_imports_of_every_python_block_work() -> None:
    for block in blocks("python"):
        if block.page == "CONTRIBUTING.md" and "_soft" in block.text:
            continue  # a test of an example, run below
        tree = ast.parse(block.text)
        lines = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(lines, []), f"{block.page}:{block.line}", "exec"), {})


def test_recipes_in_the_pages_can_be_read() -> None:
    recipes = [b for b in blocks("yaml") if b.text.startswith("source:") and "dvsa" not in b.text]
    assert len(recipes) >= 3
    for block in recipes:
        parse_recipe(yaml.safe_load(block.text))


def tables() -> dict[str, dict[str, str]]:
    """`module:class` of every described dataclass, and its rows: key and default."""
    found = {}
    for name in NAMES:
        for module, cls, text in TABLE.findall((ROOT / name).read_text(encoding="utf-8")):
            lines = [line.split("|") for line in text.splitlines()[2:]]
            found[f"{module}:{cls}"] = {line[1].strip(" `"): line[2].strip() for line in lines}
    return found


def dataclass_of(name: str) -> type[Any]:
    module, _, cls = name.partition(":")
    found: type[Any] = getattr(importlib.import_module(module), cls)
    return found


@pytest.mark.parametrize("name", tables())
def test_tables_of_settings_have_every_field_and_its_default(name: str) -> None:
    fields = {entry.name: entry for entry in dataclasses.fields(dataclass_of(name))}
    rows = tables()[name]
    assert set(rows) == set(fields)
    for key, cell in rows.items():
        default = default_of(fields[key])
        if cell in ("*required*", "*data*"):
            assert default is dataclasses.MISSING, key
        elif cell == "*below*":
            assert dataclasses.is_dataclass(default), key
        else:
            assert yaml.safe_load(cell.strip("`")) == plain(default), key


def default_of(entry: dataclasses.Field[Any]) -> object:
    if entry.default_factory is not dataclasses.MISSING:
        return entry.default_factory()
    return entry.default


def test_every_setting_of_a_recipe_has_its_table() -> None:
    described = {dataclass_of(name) for name in tables()}
    wanted = {Recipe, *(config_class(name) for name in MODELS)}
    while wanted:
        cls = wanted.pop()
        assert cls in described, cls
        nested = {type(default_of(entry)) for entry in dataclasses.fields(cls)}
        wanted |= {kind for kind in nested if dataclasses.is_dataclass(kind)}
    for name in EXTRACTORS:
        assert f"`{name}`" in prose("docs/data.md")


def test_every_model_has_a_page() -> None:
    assert not [name for name in MODELS if not (ROOT / "docs" / "models" / f"{name}.md").exists()]


def test_every_room_is_described() -> None:
    rooms = {path.name for path in (ROOT / "src" / "visavis").iterdir() if path.is_dir()}
    page = prose("docs/architecture.md")
    assert not [room for room in rooms - {"__pycache__"} if f"`{room}`" not in page]


def test_the_changelog_has_this_version() -> None:
    assert re.search(
        rf"^## \[{re.escape(__version__)}\] - \S+", prose("CHANGELOG.md"), re.MULTILINE
    )

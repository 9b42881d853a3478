"""Build the documentation site: gather pages, execute tutorials, generate the reference, check every link.

python scripts/build_site.py [--without-tutorials]

Pages lie in build/pages, the site in site/; site/index.html works from its folder, without server or network.
DATA=folder lets the tutorial on raw pairs take real data.
"""

import argparse
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import click

import resdepth
from resdepth.cli import main as commands

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES, SITE = REPOSITORY / "build" / "pages", REPOSITORY / "site"
TUTORIALS = REPOSITORY / "docs" / "tutorials"
HOME = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"][
    "Repository"
]
FIRST_PAGE, MANUAL = "index.md", "manual.md"
TEXTS = ("ARCHITECTURE.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")
LONGEST_CELL_S = 900
SHIM, SHIM_AWAY = REPOSITORY / "scripts" / "site" / "iframe-worker.js", "https://unpkg.com/iframe-worker/shim"
"""What lets search work in pages that are opened from a folder; by default it would come over the network."""


def sources() -> dict[Path, str]:
    """Which file of the repository becomes which page."""
    found = {path: path.name for path in sorted((REPOSITORY / "docs").glob("*.md"))}
    found[REPOSITORY / "docs" / "index.md"] = MANUAL
    found[REPOSITORY / "README.md"] = FIRST_PAGE
    return found | {REPOSITORY / name: name for name in TEXTS}


def gather() -> None:
    """Copy all pages; links lead to pages, or into the repository."""
    pages = sources()
    for source, name in pages.items():
        text = source.read_text(encoding="utf-8")
        (PAGES / name).write_text(with_links_of_site(text, source, pages), encoding="utf-8")
    shutil.copytree(REPOSITORY / "docs" / "images", PAGES / "images")


def with_links_of_site(text: str, source: Path, pages: dict[Path, str]) -> str:
    """The text of a page with relative links as the site has them; fenced blocks stay as they are."""

    def moved(link: re.Match[str]) -> str:
        before, path, anchor = link[1], link[2], link[3] or ""
        target = (source.parent / path).resolve()
        if target in pages:
            return f"{before}{pages[target]}{anchor})"
        inside = target.relative_to(REPOSITORY).as_posix()
        if inside.startswith("docs/images/"):
            return f"{before}{inside.removeprefix('docs/')})"
        return f"{before}{HOME}/{'tree' if target.is_dir() else 'blob'}/main/{inside}{anchor})"

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    link = r"(\]\()(?!https?://|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)"
    return "".join(part if part.startswith("```") else re.sub(link, moved, part) for part in parts)


def write_commands() -> None:
    """A page of all commands, from what `--help` is made of."""
    parts = [
        "# Commands\n",
        "What `resdepth COMMAND --help` shows. [What all have in common](../command-line.md).\n",
    ]
    parts += [described(name, command) for name, command in commands.commands.items()]
    (PAGES / "reference" / "commands.md").write_text("\n".join(parts), encoding="utf-8")


def described(name: str, command: click.Command) -> str:
    """The section of one command: text, usage, examples, options."""
    context = click.Context(command, info_name=f"resdepth {name}")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text, _, examples = inspect.cleandoc(command.help or "").partition("\b")
    shown = "\n".join(line.strip() for line in examples.splitlines()[2:] if line.strip())
    rows = [row for one in command.params if (row := option_row(one, context))]
    table = ["| option | |", "|---|---|", *rows] if rows else []
    blocks = [f"## {name}", f"```text\n{usage}\n```", escaped(text.strip()), f"```sh\n{shown}\n```"]
    return "\n\n".join([*blocks, "\n".join(table), ""])


def option_row(parameter: click.Parameter, context: click.Context) -> str | None:
    """The row of an option in the table; None for arguments and hidden options."""
    if not isinstance(parameter, click.Option) or parameter.hidden:
        return None
    record = parameter.get_help_record(context)
    if record is None:
        return None
    names, text = record
    return f"| `{names}` | {escaped(text)} |"


def escaped(text: str) -> str:
    """Text of a terminal as Markdown: what stands for itself there may mean something here."""
    parts = re.split(r"(`[^`]*`)", text)
    entities = {"<": "&lt;", ">": "&gt;", "|": "&#124;", "*": "\\*", "_": "\\_", "[": "\\[", "]": "\\]"}
    changed = [part if part.startswith("`") else part.translate(str.maketrans(entities)) for part in parts]
    return "".join(changed)


def write_python() -> None:
    """A page with the docstrings of all public names."""
    names = "\n".join(f"::: resdepth.{home(name)}.{name}\n" for name in resdepth.__all__)
    text = (
        "# Python, all arguments\n\nThe public names of `resdepth`. [The same by examples](../python.md).\n"
    )
    (PAGES / "reference" / "python.md").write_text(f"{text}\n{names}", encoding="utf-8")


def home(name: str) -> str:
    """The module, below resdepth, that defines a public name."""
    return str(getattr(resdepth, name).__module__).removeprefix("resdepth.")


def write_tutorials(*, execute: bool) -> None:
    """Pages of the notebooks; those that are not executed show their text and code alone."""
    import jupytext
    from nbclient import NotebookClient
    from nbconvert import MarkdownExporter

    folder = PAGES / "tutorials"
    work = REPOSITORY / "build" / "tutorials"
    shutil.rmtree(work, ignore_errors=True)
    for path in sorted(TUTORIALS.glob("*.py")):
        notebook, begun = jupytext.read(path), time.monotonic()
        if execute:
            (work / path.stem).mkdir(parents=True)
            resources = {"metadata": {"path": str(work / path.stem)}}
            NotebookClient(notebook, timeout=LONGEST_CELL_S, resources=resources).execute()
            print(f"{path.name}: executed in {time.monotonic() - begun:.0f} s")
        text, made = MarkdownExporter().from_notebook_node(
            notebook, {"output_files_dir": f"{path.stem}_files"}
        )
        for name, content in made["outputs"].items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        jupytext.write(notebook, folder / f"{path.stem}.ipynb")
        offer = f"\n*[This page as a notebook]({path.stem}.ipynb)*\n"
        (folder / f"{path.stem}.md").write_text(text + offer, encoding="utf-8")


def bring_shim(site: Path) -> None:
    """Let pages take the worker for search from the site."""
    shutil.copy(SHIM, site / "assets" / SHIM.name)
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(SHIM_AWAY, f"{up}assets/{SHIM.name}"), encoding="utf-8")


class _Links(HTMLParser):
    """What a page links to or loads, and the places in it that can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in {"stylesheet", "icon"}:
            self.loaded.append(given["href"])
        elif "src" in given:
            self.loaded.append(given["src"])


def problems_of(site: Path) -> Iterator[str]:
    """Links and files of a site that lead nowhere, and whatever a page would load over the network."""
    pages: dict[Path, _Links] = {}
    for path in site.rglob("*.html"):
        pages[path] = _Links()
        pages[path].feed(path.read_text(encoding="utf-8"))
    for page, found in pages.items():
        here = page.relative_to(site)
        yield from (f"{here}: loads {one}" for one in found.loaded if re.match(r"(https?:)?//", one))
        for link in [*found.links, *found.loaded]:
            path, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:|//", link) or here.name == "404.html":
                continue
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{here}: {link} is not there"
            elif anchor and target in pages and anchor not in pages[target].places:
                yield f"{here}: {link}: no such place"


def own_paths_in(tutorials: Path) -> Iterator[str]:
    """Absolute paths of the machine that executed the tutorials, in their pages and notebooks."""
    places = {REPOSITORY, Path.home(), Path(sys.prefix), Path(tempfile.gettempdir()).resolve()}
    known = "|".join(re.escape(f"{place}") for place in sorted(places) if place != Path(place.anchor))
    for page in sorted(tutorials.rglob("*")):
        if page.suffix in {".html", ".ipynb", ".md"}:
            # Not those that are the end of a longer path or of an address.
            for found in re.findall(
                rf"(?:(?<![\w.:/-])|(?<=file://))(?:{known})/[\w./-]*", page.read_text(encoding="utf-8")
            ):
                yield f"{page.relative_to(tutorials.parent)}: shows {found}, a path of this machine"


def main() -> None:
    """Build the site; exit code 1 if anything is amiss."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--without-tutorials", action="store_true", help="show them, but do not execute them")
    options = parser.parse_args()
    binaries = Path(sys.executable).parent
    os.environ |= {"NO_COLOR": "1", "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}  # for `!resdepth`
    shutil.rmtree(PAGES, ignore_errors=True)
    for name in ("reference", "tutorials"):
        (PAGES / name).mkdir(parents=True)
    gather()
    write_commands()
    write_python()
    write_tutorials(execute=not options.without_tutorials)
    subprocess.run([binaries / "zensical", "build", "--strict", "--clean"], cwd=REPOSITORY, check=True)
    bring_shim(SITE)
    problems = sorted({*problems_of(SITE), *own_paths_in(SITE / "tutorials")})
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(f"{len(problems)} problems")
    print(f"to look at: {SITE / 'index.html'}")


if __name__ == "__main__":
    main()

"""Builds the documentation site: gathers the pages of the repository in build/pages and writes build/site.

The pages are the Markdown files that the repository shows: README.md (as the first page), docs/, the pages beside
README.md, and each example as a page with its code. Links between them are rewritten. The build fails if a link leads
nowhere, if mkdocs gives any other warning, or if a page would make an external request.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"
BESIDE_README = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE")

_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]*)(#[^)\s]*)?(?=\))")
_CSS_LOADS = re.compile(r"""(?:@import\s+|url\(\s*)["']?((?:https?:)?//[^"')\s]*)""")
_LOADS = {
    "img": ("src", "srcset"),
    "script": ("src",),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "use": ("href",),
}
"""The attributes by which an element loads something when the page is shown."""
_LINKS_THAT_LOAD = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "manifest",
}


def gather() -> None:
    """Writes build/pages, from the files of the repository alone."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    for source in sources():
        target = PAGES / place(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".py":
            target.write_text(example_page(source), encoding="utf-8")
        elif source.suffix == ".md" or source.name == "LICENSE":
            target.write_text(rewritten(source), encoding="utf-8")
        else:
            shutil.copyfile(source, target)


def sources() -> list[Path]:
    """The files of the repository that the site shows."""
    docs = [path for path in (ROOT / "docs").rglob("*") if path.is_file()]
    examples = [path for path in (ROOT / "examples").rglob("*.py") if path.name != "__init__.py"]
    return sorted([ROOT / "README.md", *(ROOT / name for name in BESIDE_README), *docs, *examples])


def place(source: Path) -> Path:
    """Where a file of the repository stands in build/pages."""
    if source == ROOT / "README.md":
        return Path("index.md")
    inside = source.relative_to(ROOT / "docs") if source.is_relative_to(ROOT / "docs") else source.relative_to(ROOT)
    if source.suffix == ".py" or source.name == "LICENSE":
        return inside.with_suffix(".md")
    return inside


def rewritten(source: Path) -> str:
    """The text of a page with its links to other files of the repository as links of the site."""
    here = place(source).parent

    def link(found: re.Match[str]) -> str:
        if not found[1]:
            return found[0]
        aim = (source.parent / found[1]).resolve()
        if aim == ROOT / "docs" / "decisions":
            to = Path("decisions/index.md")
        elif aim == ROOT / "examples":
            to = Path("examples/index.md")
        else:
            to = place(aim)
        return Path(*[".."] * len(here.parts), to).as_posix() + (found[2] or "")

    parts = _FENCED.split(source.read_text(encoding="utf-8"))
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def example_page(source: Path) -> str:
    """A page with the code of an example."""
    name = source.relative_to(ROOT).as_posix()
    return f"# {name}\n\n```python\n{source.read_text(encoding='utf-8')}```\n"


def configure() -> Path:
    """Writes the configuration, with the pages that mkdocs.yml does not place, and returns its path."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    placed = set(re.findall(r"[\w./-]+\.md", str(config["nav"])))
    others = sorted(one.name for one in PAGES.glob("*.md") if one.name not in placed | {"LICENSE.md"})
    config["nav"] += [{"More": others}] if others else []
    config["nav"] += [_listed("examples"), _listed("decisions")]
    config |= {"docs_dir": str(PAGES), "site_dir": str(SITE), "not_in_nav": "LICENSE.md"}
    written = PAGES.parent / "mkdocs.yml"
    written.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return written


def _listed(folder: str) -> dict[str, list[str]]:
    """A part of the navigation with the pages of a folder, and a page that lists them."""
    names = sorted(one.relative_to(PAGES / folder).as_posix() for one in (PAGES / folder).rglob("*.md"))
    titles = [
        (PAGES / folder / name).read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ") for name in names
    ]
    title = folder.capitalize()
    lines = "\n".join(f"* [{title}]({name})" for title, name in zip(titles, names, strict=True))
    (PAGES / folder / "index.md").write_text(f"# {title}\n\n{lines}\n", encoding="utf-8")
    return {title: [f"{folder}/{name}" for name in ("index.md", *names)]}


class _Loads(HTMLParser):
    """Collects the addresses that a page loads when it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and _LINKS_THAT_LOAD & set(given.get("rel", "").split()):
            self.found.append(given.get("href", ""))
        self.found += [given[name] for name in _LOADS.get(tag, ()) if name in given]
        self.found += [one[1] for one in _CSS_LOADS.finditer(given.get("style", ""))]


def external_requests(site: Path) -> list[str]:
    """What the pages and style sheets of a site would load from elsewhere, each as `page: address`."""
    found = []
    for page in sorted(site.rglob("*.html")):
        loads = _Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        found += [f"{page.name}: {one}" for one in loads.found if re.match(r"(?:\w+:)?//", one)]
    for sheet in sorted(site.rglob("*.css")):
        found += [f"{sheet.name}: {one[1]}" for one in _CSS_LOADS.finditer(sheet.read_text(encoding="utf-8"))]
    return found


def build() -> int:
    """Builds the site. Returns the exit code: 0 if it was built without a warning and loads nothing from elsewhere."""
    gather()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--clean", "-f", str(configure())]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    if code := subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        return code
    if loaded := external_requests(SITE):
        print("\n".join(["The site must load nothing from elsewhere, got:", *loaded]), file=sys.stderr)
        return 1
    print(f"wrote {SITE.relative_to(ROOT)}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(build())

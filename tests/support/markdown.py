"""The pages of the documentation: their code blocks, their commands, and code that is run as it stands."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])


def read(page):
    """The text of a page, by its path below the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page):
    """The page's Python blocks, in their order."""
    return re.findall(r"```python\n(.*?)```", read(page), flags=re.DOTALL)


def run(page, namespace=None):
    """Run the page's Python blocks one after another in one namespace, which is returned."""
    namespace = {} if namespace is None else namespace
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page}, block {number}", "exec"), namespace)
    return namespace


def shell_lines(page):
    """The words of each line of the page's `sh` blocks, continued lines joined."""
    found = re.findall(r"```sh\n(.*?)```", read(page), flags=re.DOTALL)
    return [shlex.split(line) for block in found for line in block.replace("\\\n", " ").splitlines()]


def named_files(page):
    """Files of the repository that a page names in backquotes or links to, as paths below the root."""
    text = read(page)
    quoted = re.findall(r"`((?:examples|benchmarks|docs|tests|keras_normface)/[\w./-]+)`", text)
    linked = re.findall(r"\]\(((?!http)[\w./-]+)\)", text)
    return {*quoted, *((Path(page).parent / name).as_posix() for name in linked)}

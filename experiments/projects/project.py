"""A public project as a control: where it comes from, and how the recipe is run on it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
How = Literal["watch", "from_step", "task"]


@dataclass(frozen=True, kw_only=True)
class Project:
    """A training program of a public repository, none of whose code is kept here.

    Attributes:
        name: what the tables call it.
        repository: "owner/name" on GitHub; the runner looks for it in a folder `owner+name`.
        commit: that it was looked at.
        about: library, data and kind of training, in a few words.
        script: the script or notebook, relative to the repository.
        arguments: of the script, for a short run on small data.
        options: of `jaxrecipe watch`.
        how: whether `jaxrecipe watch` is enough, or a file of `glue/` makes a task by `from_step` or by hand.
        cells: which code cells of a notebook make the program; all by default.
        packages: what is to be installed beside the project's own requirements' usual ones.
        data: what stands in for its data.
        files: MNIST's own files, made of digits where the program would download them: paths from where it is started.
        idle: modules that do nothing here, as those that log and draw.
        devices: on which it runs, made of one CPU.
        restores: functions that JAX once had and the project calls ("tree_map"); each counts as a line of glue.
        changes: text of the script and what stands there instead, for a smaller run; each counts as a line of glue.
    """

    name: str
    repository: str
    commit: str
    about: str
    script: str
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    how: How = "watch"
    cells: tuple[int, ...] = ()
    packages: tuple[str, ...] = ()
    data: str = ""
    files: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    devices: int = 1
    restores: tuple[str, ...] = ()
    changes: tuple[tuple[str, str], ...] = ()

    def folder(self, root: Path) -> Path:
        """Where it lies."""
        return root / self.repository.replace("/", "+")

    @property
    def glue(self) -> Path:
        """The file that makes a task of it, where `watch` is not enough."""
        return HERE / "glue" / f"{self.name}.py"

    @property
    def glue_lines(self) -> int:
        """Lines of code in the body of the function `task` of the glue, changes of the script, functions restored."""
        if self.how == "watch":
            return len(self.changes) + len(self.restores)
        body = self.glue.read_text().split("def task", 1)[1].splitlines()[1:]
        return sum(1 for line in body if line.strip() and not line.strip().startswith(('"""', "#")))


def script_of(project: Project, root: Path, folder: Path) -> Path:
    """The script itself, or one in `folder`, where it is changed or made of the code cells of a notebook.

    Raises:
        ValueError: what is to be changed does not stand in it exactly once.
    """
    path = project.folder(root) / project.script
    if path.suffix != ".ipynb" and not project.changes:
        return path
    text = path.read_text() if path.suffix != ".ipynb" else _code_of(path, project.cells)
    for old, new in project.changes:
        if text.count(old) != 1:
            raise ValueError(f"{project.script} has {text.count(old)} times {old!r}; wanted it once")
        text = text.replace(old, new)
    made = folder / f"{path.stem}.py"
    made.write_text(text)
    return made


def _code_of(notebook: Path, chosen: Sequence[int]) -> str:
    """The code cells, or some of them, without commands of the shell."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    cells = [cells[index] for index in chosen] if chosen else cells
    lines = [line for cell in cells for line in [*"".join(cell["source"]).splitlines(), ""]]
    return "\n".join(line for line in lines if not line.lstrip().startswith(("!", "%"))) + "\n"

"""Run the notebooks under papermill, and publish the outputs of a full run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from strflab.book import notebooks
from strflab.progress import progress_bar
from strflab.report import PROFILES, RECORD, commit, versions

EXECUTED = Path("build", "executed")
CELL_STARTED, CELL_DONE = "Executing Cell ", "Ending Cell "  # how lines of papermill's log begin
PARAMETERS = {"profile", "device"}  # names that every notebook's cell tagged "parameters" must set


def chapters(root: Path, names: Sequence[str] = ()) -> list[Path]:
    """Return the notebooks of the tree, or those named: by their names, or by parts of them such as "02" or "harper".

    Parameters
    ----------
    root : the tree that holds notebooks/
    names : of notebooks, with or without .ipynb; all when empty

    Raises
    ------
    ValueError
        When a name is in none of theirs, or in more than one.
    """
    paths = {path.stem: path for path in sorted((root / "notebooks").glob("*.ipynb"))}
    found = [_one(Path(name).stem, list(paths)) for name in names] or list(paths)
    return [paths[name] for name in dict.fromkeys(found)]


def _one(part: str, names: list[str]) -> str:
    """The name that is `part`, else the only one that begins with it, else the only one that holds it."""
    if part in names:
        return part
    part = part.lower()
    for found in ([n for n in names if n.lower().startswith(part)], [n for n in names if part in n.lower()]):
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{part!r} is in the names of {len(found)} notebooks: {', '.join(found)}")
    raise ValueError(f"no notebook {part!r}; there are {', '.join(names)}")


def run(
    root: Path,
    profile: str = "smoke",
    device: str = "auto",
    jobs: int = 2,
    timeout: int = 3600,
    names: Sequence[str] = (),
    progress: bool = False,
) -> int:
    """Execute notebooks, several at a time, into build/executed; return how many failed.

    Parameters
    ----------
    root : Path
        The tree that holds notebooks/.
    profile, device : str
        Passed to each notebook as its parameters of these names.
    jobs : int
        Notebooks at a time; each gets its share of the cores.
    timeout : int
        Seconds that one cell may take.
    names : sequence of str
        Notebooks to run; all when empty.
    progress : bool
        Show a bar of the cells that are done, one a notebook.

    Raises
    ------
    ValueError
        For an unknown profile or notebook, or a notebook without these parameters.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile is {profile!r}; it must be one of {', '.join(PROFILES)}")
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; it must be at least 1")
    paths = chapters(root, names)
    for path in paths:
        _check_parameters(path)
    executed = root / EXECUTED
    executed.mkdir(parents=True, exist_ok=True)
    for path in paths:
        (executed / path.name).unlink(missing_ok=True)

    threads = max(1, (os.cpu_count() or 1) // jobs)
    start = time.perf_counter()

    def one(path: Path) -> bool:
        error, seconds = _execute(root, path, profile, device, threads, timeout, progress)
        print(f"{'FAILED' if error else 'ok':6s} {path.stem:32s} {seconds:7.1f} s", flush=True)
        if error:
            print(error, file=sys.stderr, flush=True)
        return not error

    with ThreadPoolExecutor(jobs) as pool:
        good = sum(pool.map(one, paths))
    print(f"{good} of {len(paths)} notebooks in {time.perf_counter() - start:.0f} s, profile {profile}")
    return len(paths) - good


def publish(root: Path, names: Sequence[str] = (), force: bool = False) -> None:
    """Copy the outputs of a full run from build/executed into notebooks/.

    Parameters
    ----------
    root : Path
        The tree.
    names : sequence of str
        Notebooks to publish; all when empty.
    force : bool
        Also replace outputs that were computed from other data sets.

    Raises
    ------
    ValueError
        When an executed copy is missing, comes from a smoke run, was made without the recording or from another text
        of the notebook, has a figure without image, caption or alt text, or shows other data sets than the outputs
        that it would replace.
    """
    ready = []
    for path in chapters(root, names):
        source = root / EXECUTED / path.name
        if not source.exists():
            raise ValueError(f"{path.stem} has no executed copy; run it with --profile full")
        nb, old = notebooks.read(source), notebooks.read(path)
        new, before = notebooks.record(nb), notebooks.record(old)
        if new.get("profile") != "full":
            raise ValueError(f"{path.stem} was run with profile {new.get('profile')!r}; only a full run is published")
        if notebooks.sources(nb) != notebooks.sources(old):
            raise ValueError(f"{path.stem} has changed since it was run; run it again")
        if new.get("absent"):
            raise ValueError(f"{path.stem} shows a stored result, for want of the recording; nothing new to publish")
        if found := notebooks.problems(nb):
            raise ValueError(f"{path.stem}: {'; '.join(found)}")
        if before and _names(new) != _names(before) and not force:
            raise ValueError(
                f"{path.stem} was run on {_names(new)}, its published outputs come from {_names(before)}; "
                "give --force to replace them"
            )
        ready.append((path, nb))
    for path, nb in ready:
        notebooks.write(path, nb)
        print(f"published {path.stem}")


def _execute(
    root: Path, path: Path, profile: str, device: str, threads: int, timeout: int, progress: bool
) -> tuple[str, float]:
    """Run one notebook; return the error, "" when there was none, and the seconds."""
    target = root / EXECUTED / path.name
    unfinished = target.with_name(f".{path.name}")  # a failed run leaves an output file too
    env = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the user's
        "PYTHONHASHSEED": "0",
        "TQDM_DISABLE": "1",  # a bar on stderr is a warning in the page
    }
    for name in ("MPLBACKEND", "STRFLAB_PROFILE", "STRFLAB_DEVICE"):  # figures would vanish; parameters decide
        env.pop(name, None)
    command = [sys.executable, "-m", "papermill", str(path), str(unfinished)]
    command += ["--kernel", "python3", "--cwd", str(path.parent), "--no-progress-bar", "--log-output"]
    command += ["--execution-timeout", str(timeout), "-p", "profile", profile, "-p", "device", device]
    start = time.perf_counter()
    cells = len(notebooks.read(path)["cells"]) + 1  # papermill adds one with the parameters
    status, error = 0, ""
    with progress_bar(total=cells, desc=path.stem, unit="cell", disable=not progress, leave=False) as bar:
        status, error = _watched(command, env, root, bar.update)
    seconds = time.perf_counter() - start
    if status:
        return error or f"papermill ended with status {status}", seconds
    nb = notebooks.read(unfinished)
    notebooks.clean(nb)
    notebooks.compress(nb)
    unsaid = {
        "device": device,
        "commit": commit(),
        "versions": versions(),
        "datasets": [],
        "stored": [],
        "absent": False,
    }
    nb["metadata"][RECORD] = {
        **unsaid,
        **notebooks.provenance(nb),
        "profile": profile,
        "seconds": round(seconds, 1),
        "date": date.today().isoformat(),
    }
    notebooks.write(target, nb)
    unfinished.unlink()
    return "", seconds


def _watched(command: list[str], env: dict[str, str], root: Path, cell_done: Callable[[], object]) -> tuple[int, str]:
    """Run papermill, call `cell_done` at the end of each cell; return the exit status and the end of its log."""
    with subprocess.Popen(
        command, env=env, cwd=root, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        log: deque[str] = deque(maxlen=60)
        for line in process.stderr or ():
            if line.startswith(CELL_DONE):
                cell_done()
            elif not line.startswith(CELL_STARTED):
                log.append(line)
    return process.returncode, "".join(log)[-3000:]


def _check_parameters(path: Path) -> None:
    """Raise unless the notebook sets the parameters: papermill only warns of a name that it does not know."""
    from papermill import inspect_notebook

    missing = PARAMETERS - set(inspect_notebook(str(path)))
    if missing:
        raise ValueError(f"{path.stem} has no parameter {', '.join(sorted(missing))} in a cell tagged 'parameters'")


def _names(record: dict) -> str:
    return ", ".join(sorted(ds["name"] for ds in record.get("datasets", []))) or "no data set"

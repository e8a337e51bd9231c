"""One run of a chapter: how much work, where, from which seed, and the record of how its numbers came about."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # torch is imported when a run starts: the book's own steps read records and need none of it
    import torch

PROFILES = ("smoke", "full")
PACKAGES = ("strflab", "torch", "numpy", "scipy", "matplotlib", "mambapy")

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One run of a chapter: how much work, where, and from which seed.

    Parameters
    ----------
    profile : str
        "smoke" (a CPU, under a minute) or "full" (the run whose outputs are published).
    device : torch.device
        Where the models are fitted.
    seed : int
        What every random number of the chapter follows from.
    started : float
        `time.perf_counter()` at the start.
    """

    profile: str
    device: torch.device
    seed: int
    started: float = field(default_factory=time.perf_counter, repr=False, compare=False)

    @property
    def full(self) -> bool:
        """True in the full profile."""
        return self.profile == "full"

    @property
    def seconds(self) -> float:
        """Seconds since the run started."""
        return time.perf_counter() - self.started

    def choose(self, smoke: T, full: T) -> T:
        """Return the one of two values that belongs to this run's profile.

        Examples
        --------
        >>> import torch
        >>> Run("smoke", torch.device("cpu"), 0).choose(smoke=5, full=200)
        5
        """
        return full if self.full else smoke


def setup(profile: str = "smoke", device: str = "auto", seed: int = 0) -> Run:
    """Seed torch and say what this run is.

    The environment variables STRFLAB_PROFILE and STRFLAB_DEVICE win over the arguments, so that a tool that
    cannot inject parameters can choose.

    Parameters
    ----------
    profile : str
        "smoke" or "full".
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
    seed : int
        Seed of torch's generators, which initialise models; functions that draw numbers take their own.

    Raises
    ------
    ValueError
        For an unknown profile, or a device that this machine has not.

    Examples
    --------
    >>> setup("smoke", "cpu", seed=1).seed
    1
    """
    import torch

    profile = os.environ.get("STRFLAB_PROFILE", profile)
    device = os.environ.get("STRFLAB_DEVICE", device)
    if profile not in PROFILES:
        raise ValueError(f"profile is {profile!r}; it must be one of {', '.join(PROFILES)}")
    where = find_device(device)
    torch.manual_seed(seed)
    return Run(profile, where, seed)


def find_device(name: str) -> torch.device:
    """Return a device by its name, "auto" being a GPU where there is one.

    Raises
    ------
    ValueError
        For a device that this machine has not.

    Examples
    --------
    >>> find_device("cpu")
    device(type='cpu')
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device is {name!r}, which this machine has not: {error}") from error
    return device


def record(run: Run, *sources: Any) -> dict[str, Any]:
    """Return how a run's numbers come about, as JSON values: data, code, device, seed, versions, date.

    Parameters
    ----------
    run : Run
        What `setup` returned.
    *sources : NeuralDataset or Result
        Every data set that the chapter used, or the stored result (`strflab.results`) that it shows.
    """
    used, stored = [], []
    for source in sources:
        if hasattr(source, "provenance"):
            used += source.provenance["datasets"]
            stored += [source.provenance] if source.stored else []
        else:
            used.append(_dataset(source))
    return {
        "profile": run.profile,
        "device": device_name(run.device),
        "seed": run.seed,
        "seconds": round(run.seconds, 1),
        "date": date.today().isoformat(),
        "commit": commit(),
        "datasets": used,
        "stored": stored,
        "absent": any(getattr(source, "absent", False) for source in sources),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """Commit of the checkout that strflab runs from, with "-dirty" when the package differs; "" without one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    # a chapter's own outputs, in results/ and notebooks/, are no difference in what made them
    head, changes = _git(root, "rev-parse", "--short=12", "HEAD"), _git(root, "status", "--porcelain", "--", "strflab")
    return head + ("-dirty" if head and changes else "")


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def device_name(device: torch.device) -> str:
    """Name of a device as a reader knows it.

    Examples
    --------
    >>> import torch
    >>> device_name(torch.device("cpu"))
    'CPU'
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return device.type.upper()


def _dataset(ds: Any) -> dict[str, Any]:
    return {
        "name": ds.name,
        "neurons": ds.n_neurons,
        "clips": ds.n_clips,
        "minutes": round(sum(ds.n_frames) * ds.dt_ms / 60_000, 2),
        "licence": ds.licence,
        "fingerprint": ds.fingerprint(),
    }

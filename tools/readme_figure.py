"""Draw book/_static/strfs.png, the picture of the README and the front page, from the stored results."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from strflab import plotting, results


def main() -> None:
    plotting.style()
    song, cortex = results.load("01_theunissen_2000"), results.load("ns1_baseline")
    fields = [(song["ridge_strf"], song["coarse_frequencies"], "zebra finch, song")]
    fields += [
        (cortex["shown_strfs"][i], cortex["frequencies"], f"ferret cortex, unit {cortex['shown'][i]}")
        for i in (1, 2, 7)
    ]
    figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.0))
    for ax, (field, frequencies, title) in zip(axes, fields, strict=True):
        mesh = plotting.strf(ax, field / np.abs(field).max(), 5.0, frequencies, vmax=1, labels=ax is axes[0])
        ax.set(title=title, xlabel="lag (ms)", xlim=(-2.5, 100))
    plotting.symmetric_colorbar(figure, mesh, axes, "weight / largest")
    figure.savefig(Path(__file__).parents[1] / "book" / "_static" / "strfs.png", dpi=200)


if __name__ == "__main__":
    main()

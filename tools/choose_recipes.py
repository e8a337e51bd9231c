"""Compare settings of a population model on four of NS1's training clips; the test clips are never loaded.

    python tools/choose_recipes.py gru s4 --learning-rate 3e-3 1e-2 --weight-decay 0.3 1

prints CCnorm on the held-out training clips: what the settings of `strflab.papers.population` were chosen by.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import torch

from strflab import data, fitting
from strflab.papers import population

HELD_OUT = (2, 6, 10, 14)  # of the 16 training clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=population.SPECS)
    parser.add_argument("--learning-rate", nargs="+", type=float, default=[3e-3, 1e-2])
    parser.add_argument("--weight-decay", nargs="+", type=float, default=[0.3])
    parser.add_argument("--epochs", nargs="+", type=int, default=[60])
    arguments = parser.parse_args()
    train, _ = data.ns1.paper_split(data.load("ns1", units="all"))
    learning = train.select(clips=[k for k in range(train.n_clips) if k not in HELD_OUT])
    held_out = train.select(clips=list(HELD_OUT))
    units = population.in_paper(train)
    for name in arguments.names:
        for rate, decay, epochs in itertools.product(arguments.learning_rate, arguments.weight_decay, arguments.epochs):
            settings = {"learning_rate": rate, "weight_decay": decay, "epochs": epochs, "patience": epochs}
            recipe = population.recipe(name, **settings)
            torch.manual_seed(recipe.seed)
            model = population.build(name, train.n_bands, train.n_neurons)
            run = fitting.fit(model, learning, held_out, recipe)
            last, best = run.history[-1]["score"], np.nanmean(run.scores[units])
            print(
                f"{name} learning_rate={rate:g} weight_decay={decay:g} epochs={epochs}: last {last:.4f} (all units), "
                f"best {best:.4f} (the paper's units) at epoch {run.best_epoch}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Draws accuracy.png from results.csv. Needs matplotlib (3.11 was used)."""

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent
BUDGETS = {"3": ("epsilon 3", "#b2182b", -0.22), "6": ("epsilon 6", "#ef8a62", 0.0), "none": ("no noise", "#2166ac", 0.22)}


def main():
    runs = defaultdict(list)
    with open(FOLDER / "results.csv", newline="") as file:
        for row in csv.DictReader(file):
            runs[row["method"], row["epsilon"]].append(float(row["accuracy"]))
    methods = list(dict.fromkeys(method for method, _ in runs))
    figure, axes = plt.subplots(figsize=(9, 4))
    for epsilon, (name, colour, shift) in BUDGETS.items():
        for place, method in enumerate(methods):
            values = runs[method, epsilon]
            axes.scatter([place + shift] * len(values), values, s=26, color=colour, alpha=0.75, linewidths=0,
                         label=name if place == 0 else None)
            mean = sum(values) / len(values)
            axes.hlines(mean, place + shift - 0.09, place + shift + 0.09, color=colour, linewidth=2)
    axes.axhline(444 / 872, color="0.4", linewidth=0.8, linestyle="--")
    axes.text(len(methods) - 0.45, 444 / 872 + 0.004, "all positive", color="0.3", fontsize=8, ha="right")
    axes.set_xticks(range(len(methods)), methods, fontsize=9)
    axes.set_ylabel("accuracy on SST-2 dev after 7 rounds")
    axes.set_title("Three seeds a dot each, and their mean", fontsize=10)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(FOLDER / "accuracy.png", dpi=130)


main()

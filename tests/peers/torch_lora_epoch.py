"""Times one local epoch over real texts, each batch padded to its own longest text. Prints one JSON object per order.

`random` shuffles the rows, as most loops do. `sorted` sorts them by length and shuffles the batches: the least padding
that a loop over dense batches can have. Tokenisation is not timed.
"""

import argparse
import csv
import json
import random
from pathlib import Path

import torch
from lora_model import Batch, Classifier, Trainer, summary, timed
from transformers import AutoTokenizer

Row = tuple[list[int], int]
"""Token ids and label of one text."""


def read_texts(path: Path, rows: int) -> list[tuple[str, int]]:
    """The first rows of JSON lines (`sentence1`, `sentence` or `text`, and `label`) or of a TSV with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            records = [json.loads(line) for line, _ in zip(file, range(rows), strict=False)]
        else:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            records = [record for record, _ in zip(reader, range(rows), strict=False)]
    column = next(name for name in ("sentence1", "sentence", "text") if name in records[0])
    return [(record[column].strip(), int(record["label"])) for record in records]


def batches(rows: list[Row], size: int, order: str, seed: int) -> list[Batch]:
    """All rows once, in batches."""
    shuffler = random.Random(seed)
    rows = sorted(rows, key=lambda row: len(row[0])) if order == "sorted" else shuffler.sample(rows, len(rows))
    cut = [rows[start : start + size] for start in range(0, len(rows), size)]
    if order == "sorted":
        shuffler.shuffle(cut)
    return [padded(batch) for batch in cut]


def padded(rows: list[Row]) -> Batch:
    """Rows as tensors, as long as the longest."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
    return ids, mask, torch.tensor([label for _, label in rows])


def epoch(model_dir: Path, plan: list[Batch]) -> tuple[tuple[float, float], list[float]]:
    """Time and losses of an epoch of a new model."""
    trainer = Trainer(Classifier(model_dir, labels=2))
    losses: list[float] = []
    return timed(lambda: losses.extend(trainer.step(batch) for batch in plan)), losses


def measure(args: argparse.Namespace, rows: list[Row], order: str) -> dict:
    """Epochs from the same start; the first one warms up and is not counted."""
    plan = batches(rows, args.batch, order, seed=0)
    times, losses = zip(*(epoch(args.model, plan) for _ in range(1 + args.repeats)), strict=True)
    sizes = [len(labels) for _, _, labels in plan]
    return {
        "order": order,
        "rows": len(rows),
        "batches": len(plan),
        "tokens": sum(int(mask.sum()) for _, mask, _ in plan),
        "tokens_with_padding": sum(ids.numel() for ids, _, _ in plan),
        "mean_loss": round(sum(loss * size for loss, size in zip(losses[-1], sizes, strict=True)) / len(rows), 4),
        **summary(list(times[1:])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the base model")
    parser.add_argument("data", type=Path, help="JSON lines, or TSV with a header, with a text and a label 0 or 1")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    texts = read_texts(args.data, args.rows)
    tokens = [tokenizer(text, truncation=True, max_length=args.max_length)["input_ids"] for text, _ in texts]
    rows = list(zip(tokens, [label for _, label in texts], strict=True))
    for order in ("random", "sorted"):
        row = measure(args, rows, order)
        print(json.dumps({"torch": torch.__version__, "threads": args.threads, "batch": args.batch, **row}), flush=True)


if __name__ == "__main__":
    main()

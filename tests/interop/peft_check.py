"""Loads an adapter with Hugging Face `peft`, prints its logits, and compares them with those in the file of texts.

Exits with 1 if any logit differs by more than the tolerance. See README.md for the format and an example.
"""

import argparse
import json
import sys
from pathlib import Path

from pooled import Logits, load_adapted, read_lines


def pooling_of(adapter_dir: Path, asked: str) -> str:
    """Adapters of a whole classifier say so; those of a bare encoder leave pooling to the caller."""
    config = json.loads((adapter_dir / "adapter_config.json").read_text(encoding="utf-8"))
    return "pooler" if config.get("task_type") == "SEQ_CLS" else asked


def difference(found: list[float], expected: list[float]) -> float:
    """The largest difference between two rows of logits."""
    if len(found) != len(expected):
        raise SystemExit(f"{len(found)} logits here, {len(expected)} in the file")
    return max(abs(here - there) for here, there in zip(found, expected, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the base model")
    parser.add_argument("adapter", type=Path, help="PEFT folder of the adapter")
    parser.add_argument("texts", type=Path, help="JSON lines with text and logits")
    parser.add_argument("--pooling", choices=["mean", "cls"], default="mean", help="for adapters of a bare encoder")
    parser.add_argument("--max-length", type=int, default=128, help="tokens kept of each text")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference allowed")
    parser.add_argument("--print-only", action="store_true", help="compare nothing")
    args = parser.parse_args()

    pooling = pooling_of(args.adapter, args.pooling)
    logits = Logits(args.model, *load_adapted(args.model, args.adapter, pooling), pooling)
    differences = []
    for line in read_lines(args.texts):
        found = logits.of(line["text"], args.max_length)
        print(json.dumps({"text": line["text"], "logits": found}, ensure_ascii=False))
        if not args.print_only:
            differences.append(difference(found, line["logits"]))
    if args.print_only:
        return 0
    print(f"compared {len(differences)} texts, largest difference {max(differences):.2e}", file=sys.stderr)
    # Asked for each text, since a difference that is not a number is below no tolerance but hides from `max`.
    return 0 if all(value <= args.tolerance for value in differences) else 1


if __name__ == "__main__":
    sys.exit(main())

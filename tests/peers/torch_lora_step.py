"""Times one LoRA training step (forward, backward, AdamW) on a full batch without padding. Prints one JSON object."""

import argparse
import json
from pathlib import Path

import torch
from lora_model import Batch, Classifier, Trainer, summary, timed


def random_batch(vocabulary: int, examples: int, tokens: int, labels: int) -> Batch:
    """What the tokens are changes nothing about the time."""
    shape = (examples, tokens)
    ids = torch.randint(1000, vocabulary, shape)
    return ids, torch.ones(shape, dtype=torch.long), torch.randint(0, labels, (examples,))


def parser(description: str | None) -> argparse.ArgumentParser:
    """What a step can be asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the base model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--labels", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    return parser


def main() -> None:
    args = parser(__doc__).parse_args()

    torch.set_num_threads(args.threads)
    trainer = Trainer(Classifier(args.model, args.labels))
    batch = random_batch(trainer.model.encoder.config.vocab_size, args.batch, args.tokens, args.labels)
    losses = []
    times = [timed(lambda: losses.append(trainer.step(batch))) for _ in range(args.warmup + args.steps)]
    shape = {"threads": args.threads, "batch": args.batch, "tokens": args.tokens, "steps": args.steps}
    ends = {"first_loss": losses[0], "last_loss": losses[-1]}
    print(json.dumps({"torch": torch.__version__, **shape, **summary(times[args.warmup :]), **ends}))


if __name__ == "__main__":
    main()

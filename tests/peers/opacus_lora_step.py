"""Times one private LoRA step by Opacus (hooks, flat clipping) beside the plain step in PyTorch. Prints one JSON object a line.

Like ours, the private step clips every example's gradient over all trained tensors and adds noise once. Opacus draws its noise
from torch's generator; ours is exact on a grid.
"""

import argparse
import json
from pathlib import Path

import opacus
import torch
from lora_model import Batch, Classifier, Trainer, summary, timed
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch_lora_step import random_batch


class PrivateTrainer:
    """AdamW behind Opacus' optimizer."""

    def __init__(self, model: Classifier, batch_size: int, learning_rate: float = 1e-3) -> None:
        self.model = GradSampleModule(model.train(), loss_reduction="mean")
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        inner = torch.optim.AdamW(trained, lr=learning_rate)
        self.optimizer = DPOptimizer(
            inner, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=batch_size, loss_reduction="mean"
        )

    def step(self, batch: Batch) -> float:
        """One step; the loss before it."""
        ids, mask, labels = batch
        loss = torch.nn.functional.cross_entropy(self.model(ids, mask), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def classifier(model_dir: Path, labels: int, *, b_only: bool) -> Classifier:
    """With `b_only`, A and the head stay as they are."""
    model = Classifier(model_dir, labels)
    if b_only:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "lora_B" in name
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the base model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--labels", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    for b_only in (False, True):
        for private in (False, True):
            model = classifier(args.model, args.labels, b_only=b_only)
            vocabulary = model.encoder.config.vocab_size
            trainer = PrivateTrainer(model, args.batch) if private else Trainer(model)
            batch = random_batch(vocabulary, args.batch, args.tokens, args.labels)
            times = [timed(lambda: trainer.step(batch)) for _ in range(args.warmup + args.steps)]
            what = {"opacus": opacus.__version__, "torch": torch.__version__, "private": private, "b_only": b_only}
            shape = {"threads": args.threads, "batch": args.batch, "tokens": args.tokens}
            print(json.dumps({**what, **shape, **summary(times[args.warmup :])}))


if __name__ == "__main__":
    main()

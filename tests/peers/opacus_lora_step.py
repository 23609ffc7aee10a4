"""Times one private LoRA step by Opacus (hooks, flat clipping) beside the plain step in PyTorch. Prints one JSON object a line.

Like ours, the private step clips every example's gradient over all trained tensors and adds noise once. Opacus draws its noise
from torch's generator; ours is exact on a grid.
"""

import json
from pathlib import Path

import opacus
import torch
from lora_model import Classifier, Trainer, summary, timed
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch_lora_step import parser, random_batch


class PrivateTrainer(Trainer):
    """AdamW behind Opacus' optimizer."""

    def __init__(self, model: Classifier, batch_size: int) -> None:
        super().__init__(GradSampleModule(model.train(), loss_reduction="mean"))
        self.optimizer = DPOptimizer(
            self.optimizer, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=batch_size, loss_reduction="mean"
        )


def classifier(model_dir: Path, labels: int, *, b_only: bool) -> Classifier:
    """With `b_only`, A and the head stay as they are."""
    model = Classifier(model_dir, labels)
    if b_only:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "lora_B" in name
    return model


def main() -> None:
    args = parser(__doc__).parse_args()

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

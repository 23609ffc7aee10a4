"""Times forward and backward pass of a LoRA step on a Llama-type model, and writing text. Prints JSON objects."""

import argparse
import json
import warnings
from pathlib import Path

import torch
from lora_model import summary, timed
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

warnings.filterwarnings("ignore", category=FutureWarning)


def load(model_dir: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="sdpa")


def step(model: torch.nn.Module, ids: torch.Tensor) -> None:
    """Loss and gradients of all factors; the first token of each text is not predicted."""
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the base model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    for targets in (["q_proj", "v_proj"], "all-linear"):
        lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM")
        model = get_peft_model(load(args.model), lora).train()
        ids = torch.randint(0, model.config.vocab_size, (args.batch, args.tokens))
        times = [timed(lambda: step(model, ids)) for _ in range(args.warmup + args.steps)]
        print(json.dumps({"torch": torch.__version__, "targets": targets, **summary(times[args.warmup :])}))
    model = load(args.model).eval()
    prompt = torch.tensor([[1]])
    write = lambda: model.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=args.tokens, do_sample=True,
        min_new_tokens=args.tokens, pad_token_id=0)
    times = [timed(write) for _ in range(4)]
    print(json.dumps({"text": args.tokens, **summary(times[1:])}))


if __name__ == "__main__":
    main()

"""Writes decoders/: five language models of two layers, and what transformers and peft compute with them.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 tokenizers==0.23.3 safetensors==0.8.0
    python decoders.py

The weights are random and mean nothing. Each model shows something of its own; together they cover what the loader
knows. References are computed in F32 from the values as they are stored. Adapter factors follow a formula, so that no
random generator is shared.
"""

import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

OUT = pathlib.Path(__file__).parent / "decoders"
SIZES = dict(
    vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, bos_token_id=1, pad_token_id=0,
)
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128
)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=64)
WINDOWS = dict(use_sliding_window=True, sliding_window=3, max_window_layers=1)
# Name, class, its own settings, element type and number of shards.
MODELS = [
    ("llama", LlamaForCausalLM, LlamaConfig, dict(tie_word_embeddings=True), torch.float16, 2),
    ("llama3", LlamaForCausalLM, LlamaConfig,
     dict(head_dim=8, attention_bias=True, mlp_bias=True, max_position_embeddings=256,
          rope_parameters=LLAMA3 | {"rope_theta": 10000.0}),
     torch.bfloat16, 1),
    ("mistral", MistralForCausalLM, MistralConfig, dict(sliding_window=4, num_key_value_heads=1), torch.float32, 1),
    ("qwen2", Qwen2ForCausalLM, Qwen2Config,
     dict(tie_word_embeddings=True, rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=1000.0)) | WINDOWS,
     torch.bfloat16, 1),
    ("qwen3", Qwen3ForCausalLM, Qwen3Config, dict(head_dim=8, rope_parameters=YARN), torch.bfloat16, 1),
]
SEQUENCES = [[1, 17, 23, 5, 60, 41, 8, 33, 2], [1, 9, 9, 50, 3], [1, 30, 12, 44, 7, 26, 58, 19, 37, 11, 62, 4]]
# How many tokens of each sequence are a prompt that nothing is to be predicted in.
PROMPTS = [3, 1, 6]
STEPS = 24


def build(kind, config, dtype):
    torch.manual_seed(13)
    made = kind(config).eval()
    for name, tensor in made.state_dict().items():
        if "norm" in name or name.endswith("bias"):
            tensor += 0.2 * torch.randn_like(tensor)
        tensor.copy_(tensor.to(dtype).float())
    return made


def save(directory, made, dtype, shards):
    tied = made.config.tie_word_embeddings
    names = [name for name in made.state_dict() if not (tied and name == "lm_head.weight")]
    tensors = {name: made.state_dict()[name].to(dtype).clone().contiguous() for name in names}
    if shards == 1:
        return save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    places = {name: f"model-{1 + index % shards:05}-of-{shards:05}.safetensors" for index, name in enumerate(names)}
    for file in set(places.values()):
        save_file({n: t for n, t in tensors.items() if places[n] == file}, directory / file, {"format": "pt"})
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}, indent=1, sort_keys=True))


def save_config(directory, config):
    """As transformers writes it, but `llama3` in the spelling of the versions before 5."""
    kept = {
        key: value for key, value in config.to_dict().items()
        if key in {*SIZES, "model_type", "head_dim", "hidden_act", "rms_norm_eps", "tie_word_embeddings", "eos_token_id",
                   "attention_bias", "mlp_bias", "rope_parameters", *WINDOWS, "layer_types"}
    }
    if kept["rope_parameters"]["rope_type"] == "llama3":
        rope = kept.pop("rope_parameters")
        kept["rope_theta"] = rope.pop("rope_theta")
        kept["rope_scaling"] = rope
    (directory / "config.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def save_tokenizer(directory):
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{index}" for index in range(4, SIZES["vocab_size"]))]
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(directory / "tokenizer.json"))


def batch():
    width = max(map(len, SEQUENCES))
    pad = lambda values, fill: torch.tensor([v + [fill] * (width - len(v)) for v in values])
    labels = [[-100] * prompt + ids[prompt:] for ids, prompt in zip(SEQUENCES, PROMPTS)]
    mask = pad([[1] * len(ids) for ids in SEQUENCES], 0)
    return dict(input_ids=pad(SEQUENCES, 0), attention_mask=mask), pad(labels, -100)


def predictions(made):
    """Logits of the rows that predict, and the tokens that follow them."""
    inputs, labels = batch()
    logits, following = made(**inputs).logits[:, :-1], labels[:, 1:]
    return logits[following != -100], following[following != -100]


def wave(shape, step, shift):
    k = torch.arange(shape.numel(), dtype=torch.float64).reshape(shape)
    return (0.2 * torch.sin(step * k + shift)).float()


def lora(made):
    wrapped = get_peft_model(
        made, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    ).eval()
    factors = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    for index, (name, p) in enumerate(sorted(factors.items())):
        p.data.copy_(wave(p.shape, 0.37 + 0.05 * index, index))
    return wrapped, factors


def greedy(made, end):
    """The continuation of the first prompt, and the smallest distance of a choice from the next best."""
    prompt = torch.tensor([SEQUENCES[0][: PROMPTS[0]]])
    out = made.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=STEPS, do_sample=False,
        eos_token_id=end, pad_token_id=0, output_scores=True, return_dict_in_generate=True)
    best = [scores[0].topk(2).values for scores in out.scores]
    assert min((first - second).item() for first, second in best) > 1e-3, "a choice that rounding could turn"
    return out.sequences[0, prompt.shape[1]:].tolist()


def main():
    for name, kind, config, own, dtype, shards in MODELS:
        directory = OUT / name
        directory.mkdir(parents=True, exist_ok=True)
        made = build(kind, config(**SIZES | own), dtype)
        # A later token of one continuation ends the texts of two models, alone or as one of several.
        free = greedy(made, None)
        end = next(token for index, token in enumerate(free) if index > 3 and token not in free[:index])
        made.config.eos_token_id = {"mistral": end, "qwen2": [63, end]}.get(name)
        save_config(directory, made.config)
        save_tokenizer(directory)
        save(directory, made, dtype, shards)
        ends = made.config.eos_token_id
        with torch.no_grad():
            tensors = {"base.logits": predictions(made)[0]}
        continuations = {"base": greedy(made, ends)}
        wrapped, factors = lora(made)
        logits, following = predictions(wrapped)
        loss = torch.nn.functional.cross_entropy(logits, following)
        loss.backward()
        tensors["logits"] = logits.detach()
        tensors |= {name.replace(".default.", "."): p.grad for name, p in factors.items()}
        continuations["adapted"] = greedy(wrapped, ends)
        save_file({n: t.clone().contiguous() for n, t in tensors.items()}, directory / "reference.safetensors")
        reference = {
            "sequences": SEQUENCES, "prompts": PROMPTS, "loss": loss.item(), "steps": STEPS,
            "continuations": continuations,
        }
        (directory / "reference.json").write_text(json.dumps(reference) + "\n")


main()

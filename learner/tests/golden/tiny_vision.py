"""Writes tiny_vit/, tiny_timm_vit/, tiny_timm_vit_avg/ and tiny_mixer/: vision models of two layers, and what transformers,
timm and peft compute with them; and pictures.json: pictures in other sizes as Pillow makes them, and small PNG and JPEG files as it decodes them.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 timm==1.0.31 safetensors==0.8.0 pillow==13.0.0
    python tiny_vision.py

The weights are random and mean nothing. Adapter factors and pixels follow formulas, so that no random generator is shared.
"""

import base64
import io
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import save_file
from timm.models.mlp_mixer import MlpMixer
from timm.models.vision_transformer import VisionTransformer
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

OUT = pathlib.Path(__file__).parent
LABELS = [2, 0, 1, 1]


def wave(shape, step, shift):
    k = torch.arange(shape.numel(), dtype=torch.float64).reshape(shape)
    return (0.3 * torch.sin(step * k + shift)).float()


def numbers(tensor):
    return [float(f"{x:.8g}") for x in tensor.detach().double().flatten().tolist()]


def shake(model):
    """Moves what libraries start at zero or one."""
    for name, p in model.named_parameters():
        if p.dim() == 1 or "token" in name.split(".")[-1] or "position" in name:
            p.data += 0.1 * torch.randn_like(p)


def pixels(channels, side):
    return 3 * wave(torch.Size([len(LABELS), channels, side, side]), 0.7, 0.2)


def gradients(model, targets, head, images):
    """Logits, and gradients of every factor and of the head, of a LoRA model whose factors follow the formula."""
    wrapped = get_peft_model(model, LoraConfig(r=2, lora_alpha=6, target_modules=targets, modules_to_save=[head]))
    factors = {name: p for name, p in wrapped.named_parameters() if "lora_" in name}
    for index, (_, p) in enumerate(sorted(factors.items())):
        p.data.copy_(wave(p.shape, 0.37 + 0.05 * index, index))
    trained = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    for name, p in trained.items():
        if "lora_" not in name:
            p.data.copy_(wave(p.shape, 0.21, 0.4))
    out = wrapped(images)
    logits = out.logits if hasattr(out, "logits") else out
    torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS)).backward()
    plain = lambda name: name.replace(".default.", ".").replace(".modules_to_save.", ".")
    grads = {plain(name): numbers(p.grad) for name, p in trained.items()}
    return {"logits": numbers(logits), "gradients": grads}


def vit():
    torch.manual_seed(5)
    config = ViTConfig(
        image_size=8, patch_size=4, num_channels=3, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=20, num_labels=3, initializer_range=0.3, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )
    model = ViTForImageClassification(config).eval()
    shake(model)
    out = OUT / "tiny_vit"
    model.save_pretrained(out)
    picture = torch.arange(14 * 11 * 3, dtype=torch.int64).reshape(14, 11, 3).mul(7).remainder(256).to(torch.uint8)
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25])
    (out / "preprocessor_config.json").write_text(json.dumps({
        "do_resize": True, "size": {"height": 8, "width": 8}, "resample": 2, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25],
        "image_processor_type": "ViTImageProcessor"}, indent=1) + "\n")
    prepared = processor(Image.fromarray(picture.numpy()), return_tensors="pt")["pixel_values"]
    images = pixels(3, 8)
    with torch.no_grad():
        states = model.vit(images).last_hidden_state
        reference = {
            "labels": LABELS, "pixels": numbers(images), "cls": numbers(states[:, 0]),
            "mean": numbers(states[:, 1:].mean(1)), "prepared": numbers(prepared),
        }
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]
    (out / "reference.json").write_text(json.dumps(reference | gradients(model, targets, "classifier", images)) + "\n")


def timm_vit(name, pool):
    torch.manual_seed(7)
    arguments = dict(img_size=8, patch_size=4, in_chans=3, embed_dim=12, depth=2, num_heads=3, mlp_ratio=2.0,
                     global_pool=pool)
    model = VisionTransformer(num_classes=3, **arguments).eval()
    shake(model)
    for p in model.parameters():
        p.data *= 1.5
    out = OUT / name
    out.mkdir(exist_ok=True)
    save_file(model.state_dict(), out / "model.safetensors", {"format": "pt"})
    config = {
        "architecture": "vit_tiny_patch16_224", "num_classes": 3, "num_features": 12, "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": {"input_size": [3, 8, 8], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5] * 3,
                           "std": [0.5] * 3, "num_classes": 3, "first_conv": "patch_embed.proj", "classifier": "head"},
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    images = pixels(3, 8)
    with torch.no_grad():
        states = model.forward_features(images)
        reference = {
            "labels": LABELS, "pixels": numbers(images), "features": numbers(model.forward_head(states, pre_logits=True)),
            "mean": numbers(states[:, 1:].mean(1)),
        }
    targets = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    (out / "reference.json").write_text(json.dumps(reference | gradients(model, targets, "head", images)) + "\n")


def mixer():
    torch.manual_seed(6)
    arguments = dict(img_size=12, patch_size=4, in_chans=1, num_blocks=2, embed_dim=10, mlp_ratio=[0.5, 2.0])
    model = MlpMixer(num_classes=3, **arguments).eval()
    shake(model)
    for p in model.parameters():
        p.data *= 1.5
    out = OUT / "tiny_mixer"
    out.mkdir(exist_ok=True)
    save_file(model.state_dict(), out / "model.safetensors", {"format": "pt"})
    config = {
        "architecture": "mixer_b16_224", "num_classes": 3, "num_features": 10, "model_args": arguments,
        "pretrained_cfg": {"input_size": [1, 12, 12], "interpolation": "bicubic", "crop_pct": 0.875, "mean": [0.5],
                           "std": [0.25], "num_classes": 3, "first_conv": "stem.proj", "classifier": "head"},
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    images = pixels(1, 12)
    with torch.no_grad():
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        reference = {"labels": LABELS, "pixels": numbers(images), "mean": numbers(features)}
    targets = ["mlp_tokens.fc1", "mlp_tokens.fc2", "mlp_channels.fc1", "mlp_channels.fc2"]
    (out / "reference.json").write_text(json.dumps(reference | gradients(model, targets, "head", images)) + "\n")


def resizing():
    cases = []
    for mode, height, width in [("L", 7, 5), ("RGB", 9, 13), ("L", 28, 28)]:
        channels = len(mode) if mode == "RGB" else 1
        k = torch.arange(height * width * channels, dtype=torch.int64)
        levels = (k * k * 31 + k * 17).remainder(256).to(torch.uint8)
        array = levels.reshape(height, width, *([3] if channels == 3 else [])).numpy()
        for to in [(4, 4), (16, 16), (11, 11)]:
            for name, resample in [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)]:
                # Rows first, as Pillow did until it began to choose the order by the sizes.
                made = Image.fromarray(array, mode).resize((to[1], height), resample).resize((to[1], to[0]), resample)
                cases.append({"channels": channels, "from": [height, width], "to": to, "filter": name,
                              "levels": list(made.tobytes())})
    files = []
    smooth = Image.fromarray(torch.arange(24 * 20, dtype=torch.int64).div(2).to(torch.uint8).reshape(24, 20).numpy())
    coloured = Image.merge("RGB", [smooth, smooth.rotate(180), smooth.transpose(Image.FLIP_LEFT_RIGHT)])
    palette = coloured.quantize(16)
    alpha = coloured.copy()
    alpha.putalpha(90)
    for name, image, options in [
        ("grey.png", smooth, {}), ("coloured.png", coloured, {}), ("palette.png", palette, {}), ("alpha.png", alpha, {}),
        ("grey.jpg", smooth, {"quality": 95}), ("coloured.jpg", coloured, {"quality": 95, "subsampling": 0}),
        ("progressive.jpg", coloured, {"quality": 95, "subsampling": 0, "progressive": True}),
    ]:
        packed = io.BytesIO()
        image.save(packed, "JPEG" if name.endswith("jpg") else "PNG", **options)
        opened = Image.open(io.BytesIO(packed.getvalue()))
        opened = opened if opened.mode == "L" else opened.convert("RGB")
        files.append({"name": name, "bytes": base64.b64encode(packed.getvalue()).decode(), "mode": opened.mode,
                      "levels": base64.b64encode(opened.tobytes()).decode()})
    (OUT / "pictures.json").write_text(json.dumps({"resized": cases, "files": files}) + "\n")


vit()
timm_vit("tiny_timm_vit", "token")
timm_vit("tiny_timm_vit_avg", "avg")
mixer()
resizing()

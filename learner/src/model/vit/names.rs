//! What weights and modules of vision transformers are called.

use crate::{
    HeadForm,
    model::block::{BlockNames, InputNames},
};

/// Names in one library.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    /// The convolution that makes patches into rows.
    pub(super) projection: &'static str,
    pub(super) class_token: &'static str,
    pub(super) positions: &'static str,
    /// What precedes a layer's number.
    pub(super) layers: &'static str,
    pub(super) block: BlockNames,
    /// The last normalisation.
    pub(super) norm: &'static str,
    pub(super) head: HeadForm,
    /// What precedes all names in adapters of the class with a classifier.
    pub(super) classifier_prefix: &'static str,
    /// What adapters call a module of the checkpoint.
    pub(super) module: fn(&str) -> String,
}

/// `ViTForImageClassification`, and `ViTModel` inside it.
pub(super) const TRANSFORMERS: Names = Names { classifier_prefix: "vit.", module: module_name, ..OWN };

/// The small transformer that is pretrained here, whose weights are called like those of `transformers`.
pub(super) const OWN: Names = Names {
    projection: "embeddings.patch_embeddings.projection",
    class_token: "embeddings.cls_token",
    positions: "embeddings.position_embeddings",
    layers: "encoder.layer",
    block: BlockNames {
        inputs: InputNames::Apart([
            "attention.attention.query",
            "attention.attention.key",
            "attention.attention.value",
        ]),
        output: "attention.output.dense",
        attention_norm: "layernorm_before",
        up: "intermediate.dense",
        down: "output.dense",
        output_norm: "layernorm_after",
    },
    norm: "layernorm",
    head: HeadForm::LINEAR,
    classifier_prefix: "",
    module: str::to_owned,
};

/// `timm`'s `VisionTransformer`.
pub(super) const TIMM: Names = Names {
    projection: "patch_embed.proj",
    class_token: "cls_token",
    positions: "pos_embed",
    layers: "blocks",
    block: BlockNames {
        inputs: InputNames::Together("attn.qkv"),
        output: "attn.proj",
        attention_norm: "norm1",
        up: "mlp.fc1",
        down: "mlp.fc2",
        output_norm: "norm2",
    },
    norm: "norm",
    head: HeadForm::TIMM,
    classifier_prefix: "",
    module: str::to_owned,
};

/// Since `transformers` 5 the modules of its `ViTModel` have other names in memory, where PEFT finds them, than in files.
fn module_name(checkpoint: &str) -> String {
    const NAMES: [(&str, &str); 7] = [
        ("encoder.layer.", "layers."),
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ];
    NAMES.iter().fold(checkpoint.to_owned(), |name, (old, new)| name.replace(old, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_the_names_under_which_peft_finds_them() {
        let name = |part: &str| module_name(&format!("encoder.layer.3.{part}"));
        assert_eq!(name("attention.attention.query"), "layers.3.attention.q_proj");
        assert_eq!(name("attention.output.dense"), "layers.3.attention.o_proj");
        assert_eq!(name("intermediate.dense"), "layers.3.mlp.fc1");
        assert_eq!(name("output.dense"), "layers.3.mlp.fc2");
    }
}

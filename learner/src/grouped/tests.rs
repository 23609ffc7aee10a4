use fedlora_adapter::Seed;

use super::*;
use crate::{Batch, Dataset, Model, Vit, VitConfig, target_modules};

const LAYERS: usize = 5;
/// The first layer with adapters.
const FIRST: usize = 2;

/// A model whose last layers are adapted, and its adapters under gradient checkpointing.
fn world() -> (Vit, Batch, GroupedAdapter) {
    let config = VitConfig {
        image_size: 4,
        num_channels: 1,
        patch_size: 2,
        hidden_size: 6,
        num_hidden_layers: LAYERS,
        num_attention_heads: 2,
        intermediate_size: 8,
        layer_norm_eps: 1e-6,
        class_token: false,
    };
    let model = Vit::random(&config, Seed(3), &Device::flex()).unwrap();
    let pixels = (0..2 * 16).map(|index| (0.7 * index as f32).sin()).collect();
    let data = Dataset::images(pixels, 16, vec![0, 1], vec!["even".into(), "odd".into()]).unwrap();
    let is_meant = |name: &&ModuleName| (FIRST..LAYERS).any(|layer| name.as_str().contains(&format!(".{layer}.")));
    let names: Vec<String> = model.adaptable().keys().filter(is_meant).map(ToString::to_string).collect();
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 2,
        alpha: 2.0,
        use_rslora: false,
        projection_seed: 0,
        modules: target_modules(&model, &names).unwrap(),
        head: model.head_spec(2),
    };
    let adapter = Adapter::zeros(Arc::new(spec)).unwrap();
    let adapters = GroupedAdapter::new(&[&adapter], Factors::Both, true, &model.device()).unwrap();
    (model, data.batch(&[0, 1]), adapters.with_examples(vec![2]).with_gradient_checkpointing())
}

fn kept(adapters: &GroupedAdapter) -> usize {
    adapters.checkpoints.as_ref().unwrap().len()
}

fn loss(model: &Vit, batch: &Batch, adapters: &GroupedAdapter) -> Tensor<1> {
    model.forward(batch, adapters, None).powi_scalar(2).sum()
}

#[test]
fn a_pass_under_checkpointing_notes_the_layers_from_the_first_adapted_one_on_until_gradients_are_taken() {
    let (model, batch, adapters) = world();
    for pass in 0..2 {
        let _forgotten = loss(&model, &batch, &adapters);
        let loss = loss(&model, &batch, &adapters);
        assert_eq!(kept(&adapters), LAYERS - FIRST, "pass {pass}");
        let gradients = adapters.gradients(&loss);
        assert_eq!((gradients.len(), kept(&adapters)), (adapters.parameters().len(), 0));
    }
}

#[test]
fn the_graph_under_checkpointing_ends_behind_the_last_layer() {
    let (model, batch, adapters) = world();
    let gradients = loss(&model, &batch, &adapters).backward();
    for Parameter { key, value } in adapters.parameters() {
        assert_eq!(value.grad(&gradients).is_some(), matches!(key, ParameterKey::Head(_)), "{key:?}");
    }
}

#[test]
fn adapters_for_single_examples_have_passes_of_their_own() {
    let (model, batch, adapters) = world();
    let examples = adapters.per_example(&[0, 0]);
    let _loss = loss(&model, &batch, &examples);
    assert_eq!((kept(&examples), kept(&adapters)), (LAYERS - FIRST, 0));
}

#[test]
fn adapters_of_which_nothing_is_trained_note_nothing() {
    let (model, batch, adapters) = world();
    let origins: Vec<&Adapter> = adapters.origins.iter().collect();
    let frozen = GroupedAdapter::new(&origins, Factors::Neither, false, &model.device()).unwrap();
    let frozen = frozen.with_examples(vec![2]).with_gradient_checkpointing();
    let _loss = loss(&model, &batch, &frozen);
    assert_eq!(kept(&frozen), 0);
}

//! A tiny vision transformer with random weights, and an adapter for it.

use std::sync::Arc;

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Purpose, Seed, Tensor};
use fedlora_learner::{Model, Vit, VitConfig, device, target_modules};
use rand::RngExt;

/// Labels of the head.
pub(crate) const LABELS: usize = 3;
/// Pixels of an image along each side.
pub(crate) const SIDE: usize = 8;

/// The model: it can be trained in milliseconds.
pub(crate) fn model() -> Arc<dyn Model> {
    let config = VitConfig {
        image_size: SIDE,
        num_channels: 1,
        patch_size: 4,
        hidden_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        intermediate_size: 20,
        layer_norm_eps: 1e-6,
        class_token: false,
    };
    Arc::new(Vit::random(&config, Seed(7), &device("cpu").unwrap()).unwrap())
}

/// Where training starts: every value is random, none is zero.
pub(crate) fn start(model: &dyn Model, kind: AdapterKind) -> Adapter {
    let spec = AdapterSpec {
        kind,
        rank: 2,
        alpha: 4.0,
        use_rslora: false,
        projection_seed: 3,
        modules: target_modules(model, &["query".to_owned(), "value".to_owned()]).unwrap(),
        head: model.head_spec(LABELS),
    };
    let mut rng = Seed(11).run(Purpose::Init);
    let mut random =
        |tensor: &mut Tensor| tensor.values_mut().iter_mut().for_each(|x| *x = rng.random::<f32>() * 0.2 - 0.1);
    let (spec, mut modules, mut head) = Adapter::zeros(Arc::new(spec.with_extras())).unwrap().into_parts();
    for factors in modules.values_mut() {
        random(&mut factors.a);
        random(&mut factors.b);
    }
    head.values_mut().for_each(random);
    Adapter::new(spec, modules, head).unwrap()
}

/// All trained values less those of `start`.
pub(crate) fn change(adapter: &Adapter, start: &Adapter) -> Vec<f64> {
    let values = |adapter: &Adapter| {
        let factors = adapter.modules().values().flat_map(|factors| [factors.a.clone(), factors.b.clone()]);
        let tensors: Vec<Tensor> = factors.chain(adapter.head().values().cloned()).collect();
        tensors.iter().flat_map(|tensor| tensor.values().to_vec()).map(f64::from).collect::<Vec<_>>()
    };
    values(adapter).iter().zip(values(start)).map(|(new, old)| new - old).collect()
}

/// The Euclidean norm.
pub(crate) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

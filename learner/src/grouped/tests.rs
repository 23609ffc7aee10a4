use fedlora_adapter::{HeadSpec, ModuleSpec};

use super::*;

#[test]
fn the_checkpointing_that_was_asked_for_stays_with_every_trained_tensor() {
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 1,
        alpha: 1.0,
        use_rslora: false,
        projection_seed: 0,
        modules: BTreeMap::from([(ModuleName::new("layer"), ModuleSpec::new(2, 2))]),
        head: HeadSpec::new(),
    };
    let adapter = Adapter::zeros(Arc::new(spec)).unwrap();
    let plain = GroupedAdapter::new(&[&adapter], Factors::Both, false, &Device::flex()).unwrap();
    let strategies = |adapters: &GroupedAdapter| -> Vec<_> {
        adapters.parameters().iter().map(|own| own.value.gradient_checkpointing_strategy()).collect()
    };
    let (disabled, balanced) =
        (Some(GradientCheckpointingStrategy::Disabled), Some(GradientCheckpointingStrategy::Balanced));
    assert_eq!(strategies(&plain), [disabled; 2]);
    let mut asked = plain.with_gradient_checkpointing();
    assert_eq!(strategies(&asked), [balanced; 2]);
    assert_eq!(strategies(&asked.per_example(&[0, 0])), [balanced; 2]);
    for parameter in asked.parameters_mut() {
        parameter.replace(parameter.value.clone().inner() + 1.0);
    }
    assert_eq!(strategies(&asked), [balanced; 2]);
}

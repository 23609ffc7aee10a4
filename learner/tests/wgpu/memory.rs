//! A device that is asked for more memory than it has.

use std::{collections::BTreeMap, sync::Arc};

use burn::tensor::Tensor;
use fedlora_adapter::{AdapterKind, ClientId, Optimizer};
use fedlora_learner::{
    Batch, DeviceError, DropoutMasks, FrozenLayers, GroupedAdapter, HeadForm, Job, LearnerError, LocalTrainer, Model,
    Trainer,
};

use super::{
    STEPS, gpu,
    parity::{
        compare,
        training::{change, plan},
        world::{World, adapter},
    },
};

/// More than any device has: 256 GiB.
const TOO_MUCH: usize = 1 << 36;

/// A model that asks for too much memory where a pass has more than some examples.
#[derive(Debug)]
struct Greedy {
    model: Arc<dyn Model>,
    examples: usize,
}

impl Model for Greedy {
    fn layers(&self) -> &FrozenLayers {
        self.model.layers()
    }

    fn feature_width(&self) -> usize {
        self.model.feature_width()
    }

    fn features(
        &self,
        batch: &Batch,
        adapters: Option<&GroupedAdapter>,
        dropout: Option<&mut DropoutMasks>,
    ) -> Tensor<2> {
        let features = self.model.features(batch, adapters, dropout);
        if batch.targets.examples() <= self.examples {
            return features;
        }
        let waste = Tensor::<1>::ones([TOO_MUCH], &features.device()).narrow(0, TOO_MUCH - 1, 1);
        features + waste.unsqueeze::<2>()
    }

    fn head(&self) -> HeadForm {
        self.model.head()
    }
}

/// What training changes where a pass may have so many examples before memory is short.
fn train(examples: usize, micro_batch_size: usize) -> Result<Vec<f32>, LearnerError> {
    let world = World::load("tiny_vit", &gpu());
    let start = adapter(&*world.model, AdapterKind::Lora, 0.0);
    let plan = Arc::new(plan(&start, Optimizer::Sgd { momentum: 0.9, weight_decay: 0.01 }, None));
    let shards = BTreeMap::from([(ClientId(1), (0..world.dataset.len() as u32).collect())]);
    let model = Arc::new(Greedy { model: world.model, examples });
    let mut trainer =
        LocalTrainer::new(model, world.dataset, Arc::new(shards))?.with_micro_batch_size(micro_batch_size);
    let outcome = trainer.train(&[Job { client: ClientId(1), plan, start: start.clone() }]).remove(0)?;
    Ok(change(&outcome.adapter, &start))
}

#[test]
fn training_goes_on_in_smaller_passes() {
    let found = vec![("change".to_owned(), train(1, 0).unwrap())];
    let expected = vec![("change".to_owned(), train(usize::MAX, 1).unwrap())];
    println!("smaller passes: {:.1e}", compare(&found, &expected, STEPS));
}

#[test]
fn one_example_that_does_not_fit_is_an_error_and_the_device_serves_others() {
    let error = train(0, 0).unwrap_err();
    assert!(matches!(error, LearnerError::Device(DeviceError::OutOfMemory(_))), "{error}");
    train(usize::MAX, 0).unwrap();
}

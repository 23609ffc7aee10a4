//! Private training seen from inside: its gradients, and what an attacker makes of its releases.

mod audit;
mod passes;
mod per_example;

use std::sync::Arc;

use fedlora_adapter::{
    Adapter, AdapterSpec, Digest, Directive, Factors, HeadPolicy, LocalHyperparameters, LocalWork, Optimizer,
    PrivacyTerms, Purpose, RoundId, RoundPlan, Schedule, Seed, Tensor,
};
use rand::RngExt;

/// One step of plain gradient descent, in a run of one round.
fn plan(start: &Adapter, seed: u64, train: Factors, batch_size: usize, privacy: Option<PrivacyTerms>) -> RoundPlan {
    RoundPlan {
        run: "inside".to_owned(),
        round: RoundId(1),
        num_rounds: 1,
        directive: Directive { train, upload: train, download: train, head: HeadPolicy::Frozen },
        spec: start.spec().digest(),
        base: Digest::of(b""),
        seed,
        local: LocalHyperparameters {
            work: LocalWork::Steps(1),
            batch_size,
            learning_rate: 1.0,
            optimizer: Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 },
            schedule: Schedule::Constant,
            warmup_ratio: 0.0,
            max_grad_norm: 0.0,
            lora_dropout: 0.0,
            proximal_mu: 0.0,
            loraplus_lr_ratio: 1.0,
            privacy,
        },
    }
}

/// An adapter whose values are all random and none zero.
fn random_adapter(spec: AdapterSpec) -> Adapter {
    let mut rng = Seed(11).run(Purpose::Init);
    let mut random =
        |tensor: &mut Tensor| tensor.values_mut().iter_mut().for_each(|x| *x = rng.random::<f32>() * 0.2 - 0.1);
    let (spec, mut modules, mut head) = Adapter::zeros(Arc::new(spec)).unwrap().into_parts();
    for factors in modules.values_mut() {
        random(&mut factors.a);
        random(&mut factors.b);
    }
    head.values_mut().for_each(random);
    // Magnitudes near zero would hide everything behind them.
    let magnitudes = head.iter_mut().filter(|(name, _)| spec.is_magnitude(name));
    magnitudes.for_each(|(_, tensor)| tensor.values_mut().iter_mut().for_each(|x| *x += 1.0));
    Adapter::new(spec, modules, head).unwrap()
}

//! Everything comes back as it went, and nothing out of range comes through.

use fedlora_adapter::{
    AdapterKind, AdapterSpec, GradientClipping, LocalHyperparameters, LocalWork, ModuleName, ModuleSpec, NoiseKind,
    NoiseLevel, Optimizer, PrivacyTerms, Schedule,
};
use proptest::prelude::*;

use super::*;

fn local() -> LocalHyperparameters {
    LocalHyperparameters {
        work: LocalWork::Epochs(2),
        batch_size: 16,
        learning_rate: 1e-3,
        optimizer: Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01 },
        schedule: Schedule::Cosine,
        warmup_ratio: 0.1,
        max_grad_norm: 1.0,
        lora_dropout: 0.05,
        proximal_mu: 0.0,
        loraplus_lr_ratio: 16.0,
        privacy: None,
    }
}

fn plan(directive: Directive) -> RoundPlan {
    RoundPlan {
        run: "trial".to_owned(),
        round: RoundId(2),
        num_rounds: 5,
        directive,
        spec: Digest::of(b"spec"),
        base: Digest::of(b"base"),
        seed: 7,
        local: local(),
    }
}

fn any_factors() -> impl Strategy<Value = Factors> {
    prop_oneof![Just(Factors::Neither), Just(Factors::A), Just(Factors::B), Just(Factors::Both)]
}

fn any_policy() -> impl Strategy<Value = HeadPolicy> {
    prop_oneof![Just(HeadPolicy::Frozen), Just(HeadPolicy::Shared), Just(HeadPolicy::Personal)]
}

fn any_noise() -> impl Strategy<Value = NoiseLevel> {
    let target = (0.1..50.0, prop::option::of(1u64..1000));
    let target = target.prop_map(|(epsilon, participations)| NoiseLevel::Target { epsilon, participations });
    prop_oneof![(0.1..50.0).prop_map(NoiseLevel::Multiplier), target]
}

fn any_terms() -> impl Strategy<Value = PrivacyTerms> {
    let clipping = vec![GradientClipping::Flat, GradientClipping::PerLayer, GradientClipping::Adaptive];
    let kinds = (prop::sample::select(clipping), prop::sample::select(vec![NoiseKind::Grid, NoiseKind::Fast]));
    let users = prop::option::of(1u32..100);
    (any_noise(), 0.01..100.0, 1e-9..0.5, kinds, users).prop_map(|(noise, norm, delta, (clipping, kind), users)| {
        let terms = PrivacyTerms::new(noise, norm, delta).expect("in range").with(clipping, kind);
        users.map_or(terms, |most| terms.protecting_users(most).expect("in range"))
    })
}

proptest! {
    #[test]
    fn terms_of_privacy_come_back_as_they_went(privacy in prop::option::of(any_terms())) {
        let local = LocalHyperparameters { privacy, ..local() };
        let back = LocalHyperparameters::try_from(wire::LocalHyperparameters::from(&local)).expect("valid");
        prop_assert_eq!(back, local);
    }

    #[test]
    fn plans_come_back_as_they_went(
        train in any_factors(), upload in any_factors(), download in any_factors(), head in any_policy()
    ) {
        let plan = plan(Directive { train, upload, download, head });
        let back = wire::RoundPlan::from(&plan).into_plan("trial").expect("valid");
        prop_assert_eq!(back, plan);
    }

    #[test]
    fn specifications_come_back_with_their_digest(
        rank in 1usize..64,
        d_in in 1usize..5000,
        d_out in 1usize..5000,
        own_rank in proptest::option::of(1usize..64),
        alpha in proptest::option::of(0.1..64.0_f64),
    ) {
        let module = ModuleSpec { rank: own_rank, alpha, ..ModuleSpec::new(d_in, d_out) };
        let spec = AdapterSpec {
            kind: AdapterKind::Lora,
            rank,
            alpha: 16.0,
            use_rslora: true,
            projection_seed: 3,
            modules: [(ModuleName::new("encoder.query"), module)].into(),
            head: [("classifier.weight".to_owned(), vec![2, d_in])].into(),
        };
        let back = AdapterSpec::try_from(wire::AdapterSpec::from(&spec)).expect("valid");
        prop_assert_eq!(back.digest(), spec.digest());
    }
}

#[test]
fn what_this_version_does_not_know_is_named() {
    let whole = Directive { train: Factors::A, upload: Factors::A, download: Factors::A, head: HeadPolicy::Frozen };
    let mut message = wire::RoundPlan::from(&plan(whole));
    message.directive.as_mut().expect("set").upload = 99;
    let error = message.into_plan("trial").expect_err("unknown").to_string();
    assert_eq!(error, "directive.upload: unknown value 99; the peer may be newer than this program");
}

#[test]
fn numbers_out_of_range_are_named() {
    let whole = Directive { train: Factors::A, upload: Factors::A, download: Factors::A, head: HeadPolicy::Frozen };
    let refused = |change: &dyn Fn(&mut wire::RoundPlan)| {
        let mut message = wire::RoundPlan::from(&plan(whole));
        change(&mut message);
        message.into_plan("trial").expect_err("out of range").to_string()
    };
    assert_eq!(refused(&|plan| plan.round = 6), "plan.round: 6 is out of range");
    assert_eq!(refused(&|plan| plan.base = Bytes::from_static(b"short")), "plan.base: a digest has 32 bytes, found 5");
    let local =
        |change: fn(&mut wire::LocalHyperparameters)| refused(&|plan| change(plan.local.as_mut().expect("set")));
    assert_eq!(local(|local| local.learning_rate = f64::NAN), "learning_rate: NaN is out of range");
    assert_eq!(local(|local| local.lora_dropout = 1.0), "lora_dropout: 1 is out of range");
    assert_eq!(local(|local| local.batch_size = 0), "batch_size: 0 is out of range");
    assert_eq!(local(|local| local.work = None), "LocalHyperparameters: work is missing");
}

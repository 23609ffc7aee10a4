use super::*;

fn parse(keys: &str) -> Result<RunConfig, String> {
    let text = format!(
        "num-rounds = 10\nlearning-rate = 0.1\n{keys}\n[lora]\nr = 2\n",
        keys = if keys.contains("method") { keys.to_owned() } else { format!("method.name = 'fedavg'\n{keys}") }
    );
    RunConfig::take(&mut text.parse().expect("valid TOML")).map_err(|error| error.to_string())
}

const GOOD: &str = "central-privacy = { clipping-norm = 0.5, target-delta = 1e-4, noise-multiplier = 2.0 }";

#[test]
fn terms_come_back_as_they_were_written() {
    let config = parse(&format!("clients-per-round = 8\nweighting = 'uniform'\n{GOOD}")).expect("valid");
    let table = config.to_table().expect("writable");
    assert_eq!(RunConfig::take(&mut table.clone()).expect("valid"), config);
    let terms = config.central_privacy.expect("there");
    let plan = terms.plan(10, 8, 100).expect("possible");
    assert_eq!((plan.event().sample_rate().to_bits(), plan.event().steps()), (1.0_f64.to_bits(), 1));
    // 2 · √64 / 8.
    assert!((plan.noise_to_signal(64) - 2.0).abs() < 1e-12);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_key() {
    let uniform = "clients-per-round = 8\nweighting = 'uniform'";
    for (keys, said) in [
        (format!("weighting = 'uniform'\n{GOOD}"), "clients-per-round is needed"),
        (format!("clients-per-round = 8\n{GOOD}"), "central-privacy.weight-cap is needed"),
        (format!("{uniform}\n{}", GOOD.replace("2.0", "2.0, target-epsilon = 1.0")), "one of them"),
        (format!("{uniform}\n{}", GOOD.replace(", noise-multiplier = 2.0", "")), "one of them"),
        (format!("{uniform}\n{}", GOOD.replace("0.5", "0.0")), "central-privacy.clipping-norm must be"),
        (format!("{uniform}\n{}", GOOD.replace("1e-4", "1.0")), "central-privacy.target-delta must be"),
        (format!("{uniform}\n{}", GOOD.replace("2.0", "2.0, weight-cap = 5")), "goes with weighting"),
        (format!("{uniform}\n{}", GOOD.replace("2.0", "2.0, clipped-count-stddev = 5")), "goes with clipping"),
        (format!("{uniform}\n{}", GOOD.replace("2.0", "2.0, sigma = 5")), "unknown"),
        (format!("method.name = 'lora-fair'\n{uniform}\n{GOOD}"), "asks more of the clients"),
        (format!("method.name = 'trimmed-mean'\n{uniform}\n{GOOD}"), "asks more of the clients"),
        (
            format!(
                "local-steps = 1\n{uniform}\n{GOOD}\nprivacy = {{ max-grad-norm = 1.0, target-delta = 1e-5, \
                 noise-multiplier = 1.0 }}"
            ),
            "excludes [privacy]",
        ),
    ] {
        let error = parse(&keys).expect_err(&keys);
        assert!(error.contains(said), "{keys}: {error}");
    }
}

#[test]
fn a_target_is_met_with_the_least_noise_and_less_where_clients_are_sampled() {
    let terms = CentralPrivacy {
        clipping_norm: 1.0,
        target_delta: 1e-5,
        noise_multiplier: None,
        target_epsilon: Some(2.0),
        clipping: Clipping::Fixed,
        clipped_count_stddev: None,
        client_sampling: ClientSampling::Any,
        weight_cap: None,
        noise: NoiseMode::Grid,
    };
    let noise = |terms: CentralPrivacy| terms.plan(20, 10, 1000).expect("possible").event().noise_multiplier();
    let all = noise(terms);
    let sampled = noise(CentralPrivacy { client_sampling: ClientSampling::Poisson, ..terms });
    assert!(sampled < 0.2 * all, "{sampled} {all}");
    let spent = |multiplier| {
        use fedlora_privacy::Accountant;
        let history = [SampledGaussian::new(multiplier, 1.0, 20).expect("valid")];
        PldAccountant::new().epsilon(&history, 1e-5).expect("valid")
    };
    assert!(spent(all) <= 2.0 && spent(all * 0.999) > 2.0);
}

#[test]
fn weights_are_uniform_or_capped() {
    let config =
        parse(&format!("clients-per-round = 8\n{}", GOOD.replace("2.0", "2.0, weight-cap = 100"))).expect("valid");
    let terms = config.central_privacy.expect("there");
    let weights = [0, 50, 100, 5000].map(|examples| terms.weight(Weighting::Examples, examples).to_bits());
    assert_eq!(weights, [0.0_f64, 0.5, 1.0, 1.0].map(f64::to_bits));
    assert_eq!(terms.weight(Weighting::Uniform, 3).to_bits(), 1.0_f64.to_bits());
}

#[test]
fn an_adaptive_bound_has_a_count_that_its_noise_allows() {
    let keys = GOOD.replace("2.0", "2.0, clipping = 'adaptive'");
    let config = parse(&format!("clients-per-round = 8\nweighting = 'uniform'\n{keys}")).expect("valid");
    let plan = config.central_privacy.expect("there").plan(10, 8, 8).expect("possible");
    let moved = plan.mean(Some(ClipBound::new(0.25).expect("valid"))).expect("possible");
    assert_eq!(moved.bound().value().to_bits(), 0.25_f64.to_bits());
    let keys = keys.replace("2.0", "2.0, clipped-count-stddev = 0.5");
    let error = parse(&format!("clients-per-round = 8\nweighting = 'uniform'\n{keys}")).expect_err("too little");
    assert!(error.contains("twice count-deviation"), "{error}");
}

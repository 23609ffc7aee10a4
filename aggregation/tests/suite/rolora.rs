//! `RoLoRA`: whose turn it is, and that turns are exact.

use fedlora_adapter::{AdapterKind, AdapterUpdate, Factors, RoundId, Side};

use crate::support::{
    F32, assert_close, awkward, clients, factors, mean_factors, mean_products, products, random, step_of, strategy,
};

#[test]
fn odd_rounds_train_b_and_even_ones_a() {
    let strategy = strategy("rolora", "");
    for round in 1..=6 {
        let directive = strategy.directive(RoundId(round));
        let expected = if round % 2 == 1 { Factors::B } else { Factors::A };
        assert_eq!((directive.train, directive.upload), (expected, expected), "round {round}");
        assert_eq!(directive.download, Factors::Both);
    }
}

#[test]
fn averaging_is_exact_in_every_round_and_the_other_factor_keeps_its_bits() {
    let strategy = strategy("rolora", "");
    let mut global = random(&awkward(AdapterKind::Lora), 61);
    for round in 1..=4 {
        let directive = strategy.directive(RoundId(round));
        let clients: Vec<_> = clients(&global, 5, 0.4, round)
            .into_iter()
            .map(|(weight, one)| {
                (weight, AdapterUpdate::select(&one, directive).complete(&global).expect("one specification"))
            })
            .collect();
        let next = step_of(&*strategy, round, &global, &clients).expect("valid updates").adapter;
        let (trained, kept) = if round % 2 == 1 { (Side::B, Side::A) } else { (Side::A, Side::B) };
        assert_eq!(factors(&next, kept), factors(&global, kept), "round {round}");
        assert_close(&factors(&next, trained), &mean_factors(&clients, trained), F32 * 1.01);
        assert_close(&products(&next), &mean_products(&clients), 10.0 * F32);
        global = next;
    }
}

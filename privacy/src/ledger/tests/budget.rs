//! What may be spent, and what is remembered.

use super::*;

#[test]
fn the_limit_is_met_exactly_and_not_passed_by_a_step() {
    let place = Place::new();
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    let _ = reserve(&mut ledger, 1, 63).expect("7.875 of 8");
    match reserve(&mut ledger, 2, 2).expect_err("8.125 of 8") {
        LedgerError::BudgetExhausted { limit, spent, asked } => {
            assert!(close(limit, 8.0) && close(spent, 7.875) && close(asked, 8.125));
        }
        other => panic!("{other}"),
    }
    assert_eq!(ledger.view().entries().len(), 2, "a refusal is no entry and costs nothing");
    let last = reserve(&mut ledger, 2, 1).expect("8 of 8");
    assert!(close(last.epsilon(), 8.0));
    let message = reserve(&mut ledger, 3, 1).expect_err("nothing is left").to_string();
    assert!(message.contains("epsilon 8 of 8 is spent") && message.contains("operator"), "{message}");
}

#[test]
fn the_budget_outlives_the_process_the_run_and_the_coordinator() {
    let place = Place::with_history();
    let mut ledger = place.open().expect("unharmed");
    assert!(close(spent(ledger.view()), 1.5));
    let other = Release { run: "another coordinator's".to_owned(), ..release(1, 21) };
    let error = ledger.reserve(&other, &secure(), &EighthPerStep).expect_err("1.5 and 2.625 of 4");
    assert!(matches!(error, LedgerError::BudgetExhausted { .. }), "{error}");
}

#[test]
fn fewer_steps_than_reserved_and_none_at_all_cost_as_much() {
    let place = Place::new();
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    let reservation = reserve(&mut ledger, 1, 8).expect("affordable");
    ledger.commit(reservation, 1, UPDATE).expect("reserved");
    drop(reserve(&mut ledger, 2, 8).expect("affordable"));
    assert!(close(spent(ledger.view()), 2.0));
}

#[test]
fn a_round_asked_again_is_charged_again_but_a_kept_update_is_known() {
    let place = Place::with_history();
    let mut ledger = place.open().expect("unharmed");
    let run = release(1, 1).run;
    assert_eq!(ledger.view().released(&run, 1), Some(UPDATE));
    assert_eq!(ledger.view().released(&run, 2), None, "reserved, not committed");
    assert_eq!(ledger.view().released("another run", 1), None);
    let again = reserve(&mut ledger, 1, 8).expect("affordable");
    assert!(close(spent(ledger.view()), 2.5));
    ledger.commit(again, 8, Fingerprint([10; 32])).expect("reserved");
    assert_eq!(ledger.view().released(&run, 1), Some(Fingerprint([10; 32])));
}

#[test]
fn a_reservation_says_what_to_train_with() {
    let place = Place::new();
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    let reservation = reserve(&mut ledger, 1, 8).expect("affordable");
    assert_eq!((reservation.event().steps(), reservation.line()), (8, 2));
    assert_eq!(reservation.release(), &release(1, 8));
    assert_eq!(reservation.head(), ledger.view().head());
}

#[test]
fn commits_need_their_reservation() {
    let (place, other) = (Place::new(), Place::new());
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    let mut foreign = Ledger::create(&other.path, LedgerTerms { units: 10_000, ..terms() }).expect("a new ledger");
    let strange = foreign.reserve(&release(5, 1), &secure(), &EighthPerStep).expect("affordable");
    let error = ledger.commit(strange, 1, UPDATE).expect_err("reserved elsewhere");
    assert!(matches!(error, LedgerError::NotReserved { line: 2 }), "{error}");
    let own = reserve(&mut ledger, 1, 3).expect("affordable");
    let error = ledger.commit(own, 4, UPDATE).expect_err("more than reserved");
    assert!(matches!(error, LedgerError::TooManySteps { reserved: 3, taken: 4 }), "{error}");
}

#[test]
fn only_a_named_operator_raises_the_limit_and_it_is_written_down() {
    let place = Place::new();
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    ledger.lower_limit(1.0).expect("lower");
    ledger.lower_limit(1.0).expect_err("not lower");
    ledger.lower_limit(2.0).expect_err("higher");
    ledger.lower_limit(-1.0).expect_err("negative");
    ledger.lower_limit(f64::NAN).expect_err("no number");
    reserve(&mut ledger, 1, 16).expect_err("2 of 1");
    ledger.raise_limit(2.0, "").expect_err("nobody");
    ledger.raise_limit(2.0, "a\nb").expect_err("two lines");
    ledger.raise_limit(0.5, "data protection officer").expect_err("lower");
    ledger.raise_limit(f64::INFINITY, "data protection officer").expect_err("no limit at all");
    ledger.raise_limit(2.0, "data protection officer").expect("higher");
    let _ = reserve(&mut ledger, 1, 16).expect("2 of 2");
    drop(ledger);
    let view = Ledger::read(&place.path).expect("unharmed");
    assert!(close(view.limit(), 2.0) && close(view.terms().epsilon_limit, 8.0));
    let raised = LimitChange { epsilon: 2.0, previous: 1.0, operator: Some("data protection officer".to_owned()) };
    assert_eq!(view.entries()[2], LedgerEntry::Limit(raised));
}

#[test]
fn what_is_no_number_and_what_protects_nobody_is_not_affordable() {
    struct Always(f64);
    impl Accountant for Always {
        fn epsilon(&self, _: &[SampledGaussian], _: f64) -> Result<f64, PrivacyError> {
            Ok(self.0)
        }

        /// A ledger never asks.
        fn delta(&self, _: &[SampledGaussian], _: f64) -> Result<f64, PrivacyError> {
            Ok(f64::NAN)
        }
    }
    let place = Place::new();
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    for epsilon in [f64::NAN, f64::INFINITY] {
        let error = ledger.reserve(&release(1, 1), &secure(), &Always(epsilon)).expect_err("no budget is enough");
        assert!(matches!(error, LedgerError::BudgetExhausted { .. }), "{error}");
    }
}

#[test]
fn accountants_see_releases_of_one_kind_together() {
    let place = Place::new();
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    for round in 0..10 {
        let _ = reserve(&mut ledger, round, 2).expect("affordable");
    }
    let other = SampledGaussian::new(2.0, 0.01, 3).expect("valid");
    let _ = ledger.reserve(&Release { event: other, ..release(10, 1) }, &secure(), &EighthPerStep).expect("affordable");
    assert_eq!(ledger.view().history(), [SampledGaussian::new(1.1, 0.01, 20).expect("valid"), other]);
}

#[test]
fn a_release_about_others_is_refused() {
    let place = Place::new();
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    for wrong in [Release { unit: PrivacyUnit::User, ..release(1, 1) }, Release { units: 9999, ..release(1, 1) }] {
        let error = ledger.reserve(&wrong, &secure(), &EighthPerStep).expect_err("others");
        assert!(matches!(error, LedgerError::OtherUnits { .. }), "{error}");
    }
    reserve(&mut ledger, 1, 0).expect_err("no steps");
    let nameless = Release { run: String::new(), ..release(1, 1) };
    ledger.reserve(&nameless, &secure(), &EighthPerStep).expect_err("no name");
    let endless = Release { run: "x".repeat(201), ..release(1, 1) };
    ledger.reserve(&endless, &secure(), &EighthPerStep).expect_err("a long name");
}

#[test]
fn simulated_noise_never_enters_a_real_ledger_and_is_stamped_in_its_own() {
    let (place, simulation) = (Place::new(), Place::new());
    let seeded = SimulatedRng::from_seed([1; 32]);
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    let error = ledger.reserve(&release(1, 1), &seeded, &EighthPerStep).expect_err("a seed protects nobody");
    assert!(matches!(error, LedgerError::OtherOrigin { .. }), "{error}");
    let simulated = LedgerTerms { origin: Origin::Simulated, ..terms() };
    let mut ledger = Ledger::create(&simulation.path, simulated).expect("a new ledger");
    reserve(&mut ledger, 1, 1).expect_err("real randomness");
    let _ = ledger.reserve(&release(1, 1), &seeded, &EighthPerStep).expect("simulated");
    assert!(!ledger.view().summary(&EighthPerStep).expect("a number").protected);
    let text = fs::read_to_string(&simulation.path).expect("readable");
    assert!(text.lines().all(|line| line.contains(r#""origin":"simulated""#)), "{text}");
}

#[test]
fn terms_that_promise_nothing_are_refused() {
    let place = Place::new();
    let refused = |terms| Ledger::create(&place.path, terms).map(|_| ()).expect_err("out of range");
    for delta in [1e-4, 0.5, 0.000_2] {
        let error = refused(LedgerTerms { delta, ..terms() });
        assert!(matches!(error, LedgerError::DeltaTooLarge { .. }), "{error}");
    }
    for delta in [0.0, -1e-6, 1.0, f64::NAN] {
        refused(LedgerTerms { delta, ..terms() });
    }
    for epsilon_limit in [-1.0, f64::NAN, f64::INFINITY] {
        refused(LedgerTerms { epsilon_limit, ..terms() });
    }
    refused(LedgerTerms { units: 0, ..terms() });
    assert!(!place.path.exists());
}

#[test]
fn the_summary_adds_up() {
    let view = Ledger::read(&Place::with_history().path).expect("unharmed");
    let summary = view.summary(&EighthPerStep).expect("a number");
    assert!(close(summary.spent, 1.5) && close(summary.remaining, 2.5) && close(summary.limit, 4.0));
    assert_eq!((summary.reservations, summary.commits, summary.steps), (2, 1, 12));
    assert!(summary.protected);
    assert_eq!(summary.terms, terms());
}

#[test]
fn fast_noise_is_not_called_protected() {
    let place = Place::new();
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    let fast = Release { noise: NoiseMode::Fast, ..release(1, 1) };
    let _ = ledger.reserve(&fast, &secure(), &EighthPerStep).expect("affordable");
    assert!(!ledger.view().summary(&EighthPerStep).expect("a number").protected);
}

#[test]
fn a_claim_is_recomputed() {
    struct Half;
    impl Accountant for Half {
        fn epsilon(&self, history: &[SampledGaussian], delta: f64) -> Result<f64, PrivacyError> {
            Ok(EighthPerStep.epsilon(history, delta)? / 2.0)
        }

        /// A ledger never asks.
        fn delta(&self, _: &[SampledGaussian], _: f64) -> Result<f64, PrivacyError> {
            Ok(f64::NAN)
        }
    }
    let place = Place::new();
    let mut ledger = Ledger::create(&place.path, terms()).expect("a new ledger");
    assert!(ledger.view().verify(&EighthPerStep).expect("a number").holds(), "nothing is claimed");
    let _ = ledger.reserve(&release(1, 8), &secure(), &Half).expect("affordable");
    let verification = ledger.view().verify(&EighthPerStep).expect("a number");
    assert!(close(verification.recorded, 0.5) && close(verification.recomputed, 1.0) && !verification.holds());
    assert!(ledger.view().verify(&Half).expect("a number").holds());
}

#[test]
fn a_head_kept_elsewhere_unmasks_an_older_copy() {
    let place = Place::with_history();
    let (ledger, head) = (bytes(&place.path), bytes(&place.head()));
    let mut open = place.open().expect("unharmed");
    let _ = reserve(&mut open, 3, 1).expect("affordable");
    let witness = open.view().head();
    assert!(open.view().knows(&witness));
    drop(open);
    // Both files together: nothing on this machine can tell.
    fs::write(&place.path, ledger).expect("writable");
    fs::write(place.head(), head).expect("writable");
    let restored = Ledger::read(&place.path).expect("right in itself");
    assert!(!restored.knows(&witness) && restored.knows(&restored.head()));
    assert!(!restored.knows(&chain::START));
}

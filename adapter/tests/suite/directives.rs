//! What is sent is what the directive says; what was not sent is what was there before.

use std::sync::Arc;

use fedlora_adapter::{
    Adapter, AdapterError, AdapterKind, AdapterUpdate, Directive, Factors, HeadPolicy, Side, UpdateSource,
};
use proptest::prelude::*;

use crate::support::{EVERYTHING, adapter, any_adapter, any_directive, changed, directives, spec};

fn is_shared(directive: Directive) -> bool {
    directive.head == HeadPolicy::Shared
}

#[test]
fn an_update_holds_what_the_directive_uploads_and_nothing_else() {
    for kind in [AdapterKind::Lora, AdapterKind::Vera] {
        let adapter = adapter(&spec(kind), 1.0);
        for directive in directives() {
            let update = AdapterUpdate::select(&adapter, directive);
            let names: Vec<_> = AdapterUpdate::expected(adapter.spec(), directive).into_keys().collect();
            assert_eq!(update.tensors().keys().cloned().collect::<Vec<_>>(), names);
            for (module, factors) in adapter.modules() {
                for side in [Side::A, Side::B] {
                    let sent = update.factor(module, side).map(|source| source.load().expect("in memory").into_owned());
                    let expected = directive.upload.contains(side).then(|| factors.side(side).values().to_vec());
                    assert_eq!(sent, expected, "{directive:?}");
                }
            }
            for name in adapter.head().keys() {
                assert_eq!(update.extra(name).is_some(), is_shared(directive));
            }
        }
    }
}

#[test]
fn no_update_has_what_its_kind_never_changes() {
    let (previous, trained) = (adapter(&spec(AdapterKind::LoraXs), 1.0), adapter(&spec(AdapterKind::LoraXs), -500.0));
    for directive in directives() {
        let update = AdapterUpdate::select(&trained, directive);
        let names: Vec<_> = AdapterUpdate::expected(trained.spec(), directive).into_keys().collect();
        assert_eq!(update.tensors().keys().cloned().collect::<Vec<_>>(), names);
        let is_constant = |name: &String| name.contains("lora_A") || name.contains("lora_B");
        assert!(!names.iter().any(is_constant), "{names:?}");
        let completed = update.complete(&previous).expect("one specification");
        for (module, factors) in completed.modules() {
            assert_eq!(factors.a, previous.modules()[module].a);
            let source = if directive.upload.contains(Side::B) { &trained } else { &previous };
            assert_eq!(factors.b, source.modules()[module].b);
        }
        for (name, tensor) in completed.head() {
            let source = if is_shared(directive) && !name.contains("lora") { &trained } else { &previous };
            assert_eq!(*tensor, source.head()[name], "{directive:?}");
        }
    }
}

#[test]
fn completing_takes_the_sent_factors_and_keeps_the_others() {
    for kind in [AdapterKind::Lora, AdapterKind::Vera] {
        let (previous, trained) = (adapter(&spec(kind), 1.0), adapter(&spec(kind), -500.0));
        for directive in directives() {
            let result = AdapterUpdate::select(&trained, directive).complete(&previous).expect("one specification");
            for (module, factors) in result.modules() {
                for side in [Side::A, Side::B] {
                    let source = if directive.upload.contains(side) { &trained } else { &previous };
                    assert_eq!(factors.side(side), source.modules()[module].side(side), "{directive:?}");
                }
            }
            let source = if is_shared(directive) { &trained } else { &previous };
            assert_eq!(result.head(), source.head(), "{directive:?}");
        }
    }
}

proptest! {
    #[test]
    fn selecting_from_what_was_completed_gives_the_update_again(trained in any_adapter(), directive in any_directive()) {
        let previous = Adapter::zeros(Arc::clone(trained.spec())).expect("usable");
        let update = AdapterUpdate::select(&trained, directive);
        let completed = update.clone().complete(&previous).expect("one specification");
        let again = AdapterUpdate::select(&completed, directive);
        prop_assert_eq!(again.digest(), update.digest());
        let rebuilt = AdapterUpdate::new(Arc::clone(trained.spec()), directive, update.tensors().clone());
        prop_assert_eq!(rebuilt.expect("exactly what was asked for"), update);
    }
}

#[test]
fn sending_everything_sends_the_adapter_and_sending_nothing_leaves_the_previous_one() {
    let (previous, trained) = (adapter(&spec(AdapterKind::Lora), 1.0), adapter(&spec(AdapterKind::Lora), -500.0));
    let full = AdapterUpdate::select(&trained, EVERYTHING);
    // 3·7 + 5·3 + 3·4 + 6·3 values of factors, 2 + 16 of the head.
    assert_eq!(full.bytes(), 4 * (21 + 15 + 12 + 18 + 18));
    assert_eq!(full.complete(&previous).expect("one specification"), trained);
    let nothing = Directive { upload: Factors::Neither, head: HeadPolicy::Personal, ..EVERYTHING };
    let empty = AdapterUpdate::select(&trained, nothing);
    assert_eq!(empty.bytes(), 0);
    assert_eq!(empty.complete(&previous).expect("one specification"), previous);
}

#[test]
fn an_update_for_one_directive_is_refused_under_another_that_sends_other_tensors() {
    let adapter = adapter(&spec(AdapterKind::Lora), 1.0);
    for made_for in directives() {
        let update = AdapterUpdate::select(&adapter, made_for);
        for read_as in directives() {
            let same = made_for.upload == read_as.upload && is_shared(made_for) == is_shared(read_as);
            let result = AdapterUpdate::new(Arc::clone(adapter.spec()), read_as, update.tensors().clone());
            assert_eq!(result.is_ok(), same, "{made_for:?} read as {read_as:?}");
            if let Err(error) = result {
                let is_named =
                    matches!(error, AdapterError::MissingTensor { .. } | AdapterError::UnexpectedTensor { .. });
                assert!(is_named, "{error}");
            }
        }
    }
}

#[test]
fn an_update_of_another_specification_completes_nothing() {
    let plain = spec(AdapterKind::Lora);
    let other = changed(&plain, |spec| spec.alpha = 9.0);
    let update = AdapterUpdate::select(&adapter(&other, 1.0), EVERYTHING);
    let error = update.complete(&adapter(&plain, 1.0)).expect_err("another scale");
    let is_told = matches!(error, AdapterError::WrongDigest { expected, found }
        if expected == plain.digest() && found == other.digest());
    assert!(is_told);
}

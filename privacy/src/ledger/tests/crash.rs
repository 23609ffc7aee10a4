//! Whatever moment the process ends at, an acknowledged reservation is in the ledger. `tests/killed.rs` kills real ones.

use super::*;

/// A write that stops at any byte, before the head knows of it.
#[test]
fn a_line_torn_at_any_byte_costs_nothing_that_was_acknowledged() {
    let place = Place::with_history();
    let (old, old_head) = (bytes(&place.path), bytes(&place.head()));
    let _ = reserve(&mut place.open().expect("unharmed"), 3, 4).expect("affordable");
    let new = bytes(&place.path);
    for end in old.len()..=new.len() {
        fs::write(&place.path, &new[..end]).expect("writable");
        fs::write(place.head(), &old_head).expect("writable");
        let whole = end == new.len();
        let expected = if whole { 2.0 } else { 1.5 };
        assert!(close(spent(&Ledger::read(&place.path).expect("readable")), expected), "read at byte {end}");
        let mut ledger = place.open().expect("repaired");
        assert!(close(spent(ledger.view()), expected), "byte {end}");
        assert_eq!(bytes(&place.path).len(), if whole { end } else { old.len() });
        // It goes on as if nothing had happened.
        if end % 16 == 0 || whole {
            let _ = reserve(&mut ledger, 4, 4).expect("affordable");
            drop(ledger);
            assert!(close(spent(place.open().expect("unharmed").view()), expected + 0.5));
        }
    }
}

/// A disk may keep the length of a write and lose parts of it.
#[test]
fn a_line_with_holes_is_cut_off() {
    let place = Place::with_history();
    let (old, old_head) = (bytes(&place.path).len(), bytes(&place.head()));
    let _ = reserve(&mut place.open().expect("unharmed"), 3, 4).expect("affordable");
    let new = bytes(&place.path);
    for (from, to) in [(old, new.len()), (old, old + 50), (old + 50, new.len() - 1), (new.len() - 1, new.len())] {
        let mut holes = new.clone();
        holes[from..to].fill(0);
        fs::write(&place.path, holes).expect("writable");
        fs::write(place.head(), &old_head).expect("writable");
        assert!(close(spent(place.open().expect("repaired").view()), 1.5));
    }
}

/// What the head knows has been acknowledged: a file that ends before is refused, at every byte.
#[test]
fn a_ledger_cut_anywhere_before_its_head_is_refused() {
    let place = Place::with_history();
    let (content, head) = (bytes(&place.path), head::read(&place.path).expect("readable"));
    for end in 0..content.len() {
        let error = reading::check(&place.path, head, Some(&content[..end])).map(|_| ()).expect_err("cut");
        assert!(matches!(error, LedgerError::Shortened { .. }), "byte {end}: {error}");
    }
}

#[test]
fn making_a_ledger_can_be_interrupted_and_begun_again() {
    let place = Place::new();
    drop(Ledger::create(&place.path, terms()).expect("a new ledger"));
    // The head is written first.
    fs::remove_file(&place.path).expect("removable");
    assert!(matches!(place.refusal(), LedgerError::Missing { .. }));
    let mut ledger = Ledger::create(&place.path, LedgerTerms { epsilon_limit: 1.0, ..terms() }).expect("begun again");
    let _ = reserve(&mut ledger, 1, 1).expect("affordable");
    drop(ledger);
    fs::remove_file(&place.path).expect("removable");
    assert!(matches!(place.refusal(), LedgerError::Lost { .. }), "a reservation is gone");
}

#[cfg(unix)]
#[test]
fn after_a_failed_write_nothing_is_granted_until_the_ledger_is_opened_again() {
    let place = Place::with_history();
    let mut ledger = place.open().expect("unharmed");
    // A directory where the head's next version should be: the line is written, the head is not.
    fs::create_dir(place.beside(".head.partial")).expect("writable");
    assert!(matches!(reserve(&mut ledger, 3, 4).expect_err("no head"), LedgerError::Io { .. }));
    fs::remove_dir(place.beside(".head.partial")).expect("removable");
    assert!(matches!(reserve(&mut ledger, 3, 4).expect_err("unsure"), LedgerError::Broken { .. }));
    drop(ledger);
    assert!(close(spent(place.open().expect("repaired").view()), 2.0), "the line is there, so it counts");
}

//! Every way to make a ledger forget is refused, and named.

use super::*;

/// Changes the ledger's bytes and returns why it no longer opens.
fn after(change: impl FnOnce(&mut Vec<u8>)) -> LedgerError {
    let place = Place::with_history();
    let mut content = bytes(&place.path);
    change(&mut content);
    fs::write(&place.path, content).expect("writable");
    place.refusal()
}

/// Changes the ledger's lines.
fn after_lines(change: impl FnOnce(&mut Vec<String>)) -> LedgerError {
    after(|content| {
        let text = String::from_utf8(content.clone()).expect("text");
        let mut lines: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
        assert_eq!(lines.len(), 5);
        change(&mut lines);
        *content = lines.concat().into_bytes();
    })
}

fn after_head(change: impl FnOnce(String) -> String) -> LedgerError {
    let place = Place::with_history();
    let head = fs::read_to_string(place.head()).expect("readable");
    fs::write(place.head(), change(head)).expect("writable");
    place.refusal()
}

macro_rules! refused {
    ($($name:ident: $error:expr => $pattern:pat,)*) => {$(
        #[test]
        fn $name() {
            let error = $error;
            assert!(matches!(error, $pattern), "{error:?}");
        }
    )*};
}

refused! {
    a_smaller_number_of_steps: after_lines(|lines| lines[1] = lines[1].replace("\"steps\":8", "\"steps\":1"))
        => LedgerError::Altered { line: 2, .. },
    a_larger_sigma: after_lines(|lines| lines[4] = lines[4].replace("1.1", "9.1"))
        => LedgerError::Altered { line: 5, .. },
    a_smaller_sample_rate: after_lines(|lines| lines[1] = lines[1].replace("0.01", "0.001"))
        => LedgerError::Altered { line: 2, .. },
    a_higher_limit: after_lines(|lines| lines[0] = lines[0].replace("8.0", "9.0"))
        => LedgerError::Altered { line: 1, .. },
    another_data_set_in_the_first_line: after_lines(|lines| lines[0] = lines[0].replace("0707", "0708"))
        => LedgerError::Altered { line: 1, .. },
    another_digest_in_the_chain: after_lines(|lines| lines[2].replace_range(20..21, "x"))
        => LedgerError::Altered { line: 3, .. },
    a_space_in_a_line: after_lines(|lines| lines[3].insert(85, ' '))
        => LedgerError::Altered { line: 4, .. },
    a_line_taken_out: after_lines(|lines| drop(lines.remove(1)))
        => LedgerError::Altered { line: 2, .. },
    the_first_line_taken_out: after_lines(|lines| drop(lines.remove(0)))
        => LedgerError::Altered { line: 1, .. },
    two_lines_swapped: after_lines(|lines| lines.swap(1, 4))
        => LedgerError::Altered { line: 2, .. },
    a_line_repeated: after_lines(|lines| lines.insert(2, lines[1].clone()))
        => LedgerError::Altered { line: 3, .. },
    an_empty_line: after_lines(|lines| lines.insert(1, "\n".to_owned()))
        => LedgerError::Altered { line: 2, .. },
    the_last_line_taken_off: after_lines(|lines| lines.truncate(4))
        => LedgerError::Shortened { expected: 5, found: 4, .. },
    all_but_the_first_line_taken_off: after_lines(|lines| lines.truncate(1))
        => LedgerError::Shortened { expected: 5, found: 1, .. },
    the_last_line_feed_taken_off: after(|content| content.truncate(content.len() - 1))
        => LedgerError::Shortened { expected: 5, found: 4, .. },
    an_empty_file: after(Vec::clear)
        => LedgerError::Shortened { expected: 5, found: 0, .. },
    zeros_instead_of_everything: after(|content| content.fill(0))
        => LedgerError::Replaced { lines: 0, .. },
    windows_line_ends: after_lines(|lines| lines.iter_mut().for_each(|line| *line = line.replace('\n', "\r\n")))
        => LedgerError::Altered { line: 1, .. },
    a_head_of_fewer_lines: after_head(|head| head.replace("\"lines\":5", "\"lines\":4"))
        => LedgerError::Replaced { lines: 5, .. },
    a_head_of_fewer_bytes: after_head(|head| {
        let bytes: u64 = serde_json::from_str::<LedgerHead>(&head).expect("a head").bytes;
        head.replace(&bytes.to_string(), &(bytes - 1).to_string())
    }) => LedgerError::Replaced { lines: 4, .. },
    a_head_of_more_bytes: after_head(|head| head.replace("\"bytes\":", "\"bytes\":1"))
        => LedgerError::Shortened { found: 5, .. },
    a_head_with_a_space: after_head(|head| head.replace(':', ": "))
        => LedgerError::HeadAltered { .. },
    a_head_that_is_empty: after_head(|_| String::new())
        => LedgerError::HeadAltered { .. },
    a_head_with_another_digest: after_head(|head| head.replace("\"chain\":\"", "\"chain\":\"0").replace("\"}", "}"))
        => LedgerError::HeadAltered { .. },
}

#[test]
fn one_flipped_bit_anywhere_is_refused_with_its_line() {
    let place = Place::with_history();
    let (mut content, head) = (bytes(&place.path), head::read(&place.path).expect("readable"));
    let mut line = 1;
    for index in 0..content.len() {
        for bit in 0..8 {
            content[index] ^= 1 << bit;
            match reading::check(&place.path, head, Some(&content)).map(|_| ()).expect_err("changed") {
                LedgerError::Altered { line: found, .. } => assert_eq!(found, line, "byte {index}, bit {bit}"),
                // The last line feed: a line without an end is no line.
                LedgerError::Replaced { lines: 4, .. } => assert_eq!(index, content.len() - 1),
                other => panic!("byte {index}, bit {bit}: {other}"),
            }
            content[index] ^= 1 << bit;
        }
        line += u64::from(content[index] == b'\n');
    }
    reading::check(&place.path, head, Some(&content)).expect("as it was");
}

#[test]
fn one_flipped_bit_in_the_head_is_refused() {
    let place = Place::with_history();
    let content = bytes(&place.head());
    for index in 0..content.len() {
        for bit in 0..8 {
            let mut changed = content.clone();
            changed[index] ^= 1 << bit;
            fs::write(place.head(), changed).expect("writable");
            Ledger::read(&place.path).expect_err("changed");
        }
    }
}

#[test]
fn an_older_copy_of_the_ledger_is_refused() {
    let place = Place::with_history();
    let older = bytes(&place.path);
    let _ = reserve(&mut place.open().expect("unharmed"), 3, 1).expect("affordable");
    fs::write(&place.path, older).expect("writable");
    assert!(matches!(place.refusal(), LedgerError::Shortened { expected: 6, found: 5, .. }));
}

#[test]
fn an_older_copy_of_the_head_never_hides_a_line() {
    let place = Place::with_history();
    let older = bytes(&place.head());
    let mut ledger = place.open().expect("unharmed");
    let _ = reserve(&mut ledger, 3, 1).expect("affordable");
    let one_behind = bytes(&place.head());
    let _ = reserve(&mut ledger, 4, 1).expect("affordable");
    drop(ledger);
    fs::write(place.head(), older).expect("writable");
    assert!(matches!(place.refusal(), LedgerError::HeadBehind { lines: 5, .. }));
    // One line ahead is what a crash leaves: it counts.
    fs::write(place.head(), one_behind).expect("writable");
    assert!(close(spent(place.open().expect("repaired").view()), 1.75));
}

#[test]
fn a_fork_of_the_same_length_is_refused() {
    let place = Place::with_history();
    let (ledger, head) = (bytes(&place.path), bytes(&place.head()));
    let _ = reserve(&mut place.open().expect("unharmed"), 3, 7).expect("affordable");
    let expensive = bytes(&place.head());
    fs::write(&place.path, ledger).expect("writable");
    fs::write(place.head(), head).expect("writable");
    let _ = reserve(&mut place.open().expect("unharmed"), 3, 1).expect("affordable");
    fs::write(place.head(), expensive).expect("writable");
    assert!(matches!(place.refusal(), LedgerError::Replaced { lines: 6, .. }));
}

#[test]
fn a_ledger_of_another_data_set_is_refused() {
    let place = Place::with_history();
    let error = Ledger::open(&place.path, Fingerprint([8; 32])).map(|_| ()).expect_err("another data set");
    assert!(matches!(error, LedgerError::OtherData { found: DATA, .. }), "{error}");
    // Nor does its content under another ledger's head.
    let other = Place::new();
    drop(Ledger::create(&other.path, LedgerTerms { data: Fingerprint([8; 32]), ..terms() }).expect("a new ledger"));
    fs::copy(&place.path, &other.path).expect("writable");
    Ledger::open(&other.path, DATA).map(|_| ()).expect_err("another head");
}

#[test]
fn a_ledger_whose_head_is_gone_is_refused_and_not_made_anew() {
    let place = Place::with_history();
    fs::remove_file(place.head()).expect("removable");
    assert!(matches!(place.refusal(), LedgerError::HeadMissing { .. }));
    let error = Ledger::create(&place.path, terms()).map(|_| ()).expect_err("there is one");
    assert!(matches!(error, LedgerError::HeadMissing { .. }), "{error}");
}

#[test]
fn a_ledger_that_is_gone_is_not_made_anew() {
    let place = Place::with_history();
    fs::remove_file(&place.path).expect("removable");
    assert!(matches!(place.refusal(), LedgerError::Lost { lines: 5, .. }));
    let error = Ledger::create(&place.path, terms()).map(|_| ()).expect_err("there was one");
    assert!(matches!(error, LedgerError::Lost { .. }), "{error}");
}

#[test]
fn a_second_process_is_kept_out_and_readers_are_not() {
    let place = Place::with_history();
    let ledger = place.open().expect("unharmed");
    assert!(matches!(place.open().map(|_| ()).expect_err("open"), LedgerError::Locked { .. }));
    let error = Ledger::create(&place.path, terms()).map(|_| ()).expect_err("open");
    assert!(matches!(error, LedgerError::Locked { .. }), "{error}");
    assert_eq!(&Ledger::read(&place.path).expect("readable"), ledger.view());
    drop(ledger);
    let error = Ledger::create(&place.path, terms()).map(|_| ()).expect_err("there is one");
    assert!(matches!(error, LedgerError::Exists { .. }), "{error}");
    place.open().expect("free again");
}

#[test]
fn lines_that_others_wrote_meanwhile_stop_the_ledger() {
    let place = Place::with_history();
    let mut ledger = place.open().expect("unharmed");
    let mut content = bytes(&place.path);
    content.truncate(content.len() - 10);
    fs::write(&place.path, content).expect("writable");
    let error = reserve(&mut ledger, 3, 1).expect_err("not the file that was opened");
    assert!(matches!(error, LedgerError::Broken { .. }), "{error}");
}

/// Someone who computes the chain anew can write what they like, but nothing that no ledger says.
#[test]
fn a_well_chained_line_must_still_make_sense() {
    let place = Place::with_history();
    let view = Ledger::read(&place.path).expect("unharmed");
    let wrong = [
        LedgerEntry::Open(terms()),
        LedgerEntry::Commit { reservation: 2, steps: 1, update: UPDATE },
        LedgerEntry::Commit { reservation: 5, steps: 5, update: UPDATE },
        LedgerEntry::Limit(LimitChange { epsilon: 9.0, previous: 4.0, operator: None }),
        LedgerEntry::Limit(LimitChange { epsilon: 3.0, previous: 8.0, operator: None }),
        LedgerEntry::Reserve { release: release(3, 1), origin: Origin::Simulated, epsilon: 1.0 },
        LedgerEntry::Reserve { release: release(3, 1), origin: Origin::OperatingSystem, epsilon: 5.0 },
    ];
    let content = bytes(&place.path);
    for entry in wrong {
        let (line, head) = chain::next(&view.head(), &entry).expect("a line");
        fs::write(&place.path, [content.as_slice(), line.as_bytes()].concat()).expect("writable");
        head::write(&place.path, &head).expect("writable");
        assert!(matches!(place.refusal(), LedgerError::Contradiction { line: 6, .. }), "{entry:?}");
    }
}

#[test]
fn a_line_of_a_newer_version_is_named_and_not_skipped() {
    let place = Place::with_history();
    let view = Ledger::read(&place.path).expect("unharmed");
    // A chain that is right, over an entry with a field that nobody here knows.
    let json = r#"{"commit":{"reservation":5,"steps":1,"update":"00","future":true}}"#;
    let mut hasher = blake3::Hasher::new_derive_key("fedlora 2026 privacy ledger, format 1");
    let chain = Fingerprint(*hasher.update(&view.head().chain.0).update(json.as_bytes()).finalize().as_bytes());
    let line = format!("{{\"chain\":\"{chain}\",\"entry\":{json}}}\n");
    let content = [bytes(&place.path), line.clone().into_bytes()].concat();
    fs::write(&place.path, content).expect("writable");
    head::write(&place.path, &LedgerHead { lines: 6, bytes: view.head().bytes + line.len() as u64, chain })
        .expect("writable");
    assert!(matches!(place.refusal(), LedgerError::Unreadable { line: 6, .. }));
}

#[test]
fn nothing_is_there_before_it_is_made() {
    let place = Place::new();
    assert!(matches!(place.refusal(), LedgerError::Missing { .. }));
    let below = place.path.join("a/ledger.jsonl");
    assert!(matches!(Ledger::open(&below, DATA).map(|_| ()).expect_err("no directory"), LedgerError::Missing { .. }));
    Ledger::create(&below, terms()).expect("directories are made");
}

#[test]
fn fingerprints_have_one_spelling() {
    let text = DATA.to_string();
    assert_eq!(text.parse(), Ok(DATA));
    for wrong in ["", &text[1..], &text.replace('7', "A"), &text.replace("07", "é"), &format!("{text}0")] {
        wrong.parse::<Fingerprint>().expect_err("no fingerprint");
    }
}

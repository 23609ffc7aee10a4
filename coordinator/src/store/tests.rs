//! Every store keeps the same promises.

use super::{DiskStore, MemoryStore, RoundStore, Table, Write};

fn write(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write { table, key: key.to_vec(), value: value.to_vec() }
}

fn stores() -> (tempfile::TempDir, Vec<Box<dyn RoundStore>>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = DiskStore::open(&folder.path().join("store.redb")).expect("writable");
    (folder, vec![Box::new(MemoryStore::default()), Box::new(disk)])
}

#[test]
fn what_is_written_is_read_by_key_and_in_order() {
    let (_folder, stores) = stores();
    for mut store in stores {
        let keys = |pairs: Vec<super::Pair>| pairs.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(store.get(Table::Runs, b"a").expect("readable"), None);
        let writes = [b"a", b"b", b"c"].map(|key| write(Table::Runs, key, b"1"));
        store.commit(&writes).expect("writable");
        store.commit(&[write(Table::Runs, b"b", b"2"), write(Table::Events, b"b", b"3")]).expect("writable");
        assert_eq!(store.get(Table::Runs, b"b").expect("readable").as_deref(), Some(&b"2"[..]));
        assert_eq!(store.get(Table::Events, b"b").expect("readable").as_deref(), Some(&b"3"[..]));
        let mut scan = |from: &[u8], to: &[u8], limit, youngest| {
            keys(store.scan(Table::Runs, from, to, limit, youngest).expect("readable"))
        };
        assert_eq!(scan(b"", b"z", 9, false), [b"a", b"b", b"c"]);
        assert_eq!(scan(b"b", b"c", 9, false), [b"b"]);
        assert_eq!(scan(b"", b"z", 2, true), [b"c", b"b"]);
        assert_eq!(scan(b"z", b"a", 9, false), Vec::<Vec<u8>>::new());
    }
}

#[test]
fn a_disk_store_is_there_after_it_was_closed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("store.redb");
    DiskStore::open(&path).expect("writable").commit(&[write(Table::Keys, b"k", b"v")]).expect("writable");
    let mut again = DiskStore::open(&path).expect("readable");
    assert_eq!(again.get(Table::Keys, b"k").expect("readable").as_deref(), Some(&b"v"[..]));
}

#[test]
fn what_a_crash_left_of_the_first_start_is_no_obstacle() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("store.redb");
    std::fs::write(folder.path().join("store.redb.new"), vec![7; 9_000]).expect("writable");
    let mut store = DiskStore::open(&path).expect("made anew");
    assert_eq!(store.get(Table::Keys, b"k").expect("readable"), None);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("store.redb");
    std::fs::write(&path, vec![7; 9_000]).expect("writable");
    let error = DiskStore::open(&path).expect_err("no database");
    assert!(error.to_string().contains("store.redb"), "{error}");
}

#[test]
fn a_state_of_another_layout_is_refused() {
    let mut store = MemoryStore::default();
    store.commit(&[write(Table::Meta, b"schema", b"99")]).expect("writable");
    let error = super::Records::open(Box::new(store)).expect_err("too young");
    assert_eq!(error.to_string(), "the state has layout 99, this program reads layout 1");
}

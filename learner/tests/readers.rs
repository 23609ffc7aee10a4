//! Every data format, as files on disk: what is read from good ones and what is said about bad ones.

use std::fs;
use std::path::Path;

use fedlora_adapter::Seed;
use fedlora_learner::data::{Column, DataConfig, DataError, Format, LoadedText, Record};
use tempfile::TempDir;

const SEED: Seed = Seed(7);

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// One training file, tested on a share of itself.
fn read(name: &str, content: impl AsRef<[u8]>, change: impl FnOnce(&mut DataConfig)) -> Result<LoadedText, DataError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), content).unwrap();
    let mut config = DataConfig { test_fraction: Some(0.5), ..DataConfig::new(folder.path().join(name)) };
    change(&mut config);
    LoadedText::load(&config, SEED)
}

/// What is wrong with a file, without the folder it lies in.
fn complaint(name: &str, content: impl AsRef<[u8]>) -> String {
    let message = read(name, content, |_| ()).unwrap_err().to_string();
    message.rsplit('/').next().unwrap_or_default().to_owned()
}

/// All rows in the order of their lines.
fn rows(loaded: &LoadedText) -> Vec<Record> {
    let mut rows = [loaded.train(), loaded.test()].concat();
    rows.sort_by_key(|row| row.origin.line);
    rows
}

fn texts(rows: &[Record]) -> Vec<(&str, &str, usize)> {
    rows.iter().map(|row| (row.text.as_str(), row.label.as_str(), row.origin.line)).collect()
}

#[test]
fn glue_files_are_trimmed_and_keep_their_quotes() {
    let content = "sentence\tlabel\nit 's \"fine \t1\n\"so so \t0\ngood \t1\nbad \t0\n";
    let rows = rows(&read("train.tsv", content, |_| ()).unwrap());
    assert_eq!(texts(&rows), [("it 's \"fine", "1", 2), ("\"so so", "0", 3), ("good", "1", 4), ("bad", "0", 5)]);
}

#[test]
fn quoted_line_breaks_belong_to_the_text_and_lines_are_still_counted_right() {
    for end in ["\n", "\r\n"] {
        let content =
            ["text,category", "\"one,", "two\",a", "", "\"said \"\"hi\"\"\",b", "three,a", "four,b", ""].join(end);
        let rows = rows(&read("train.csv", content, |_| ()).unwrap());
        let first = format!("one,{end}two");
        assert_eq!(
            texts(&rows),
            [(first.as_str(), "a", 2), ("said \"hi\"", "b", 5), ("three", "a", 6), ("four", "b", 7)]
        );
    }
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_column() {
    let rows = rows(&read("train.csv", "\u{feff}text,label\na,0\nb,0\nc,1\nd,1\n", |_| ()).unwrap());
    assert_eq!(rows.len(), 4);
}

#[test]
fn json_lines_may_hold_nulls_and_numbers_as_labels() {
    let content = "{\"sentence1\": \"good \", \"sentence2\": null, \"label\": 1}\n\n\
                   {\"sentence1\": \"bad\", \"sentence2\": \"worse\", \"label\": 0}\n\
                   {\"sentence1\": \"fine\", \"sentence2\": null, \"label\": 1}\n\
                   {\"sentence1\": \"poor\", \"sentence2\": null, \"label\": 0}\n";
    let rows = rows(&read("part.jsonl", content, |config| config.format = Format::FedsvdSplit).unwrap());
    assert_eq!(texts(&rows), [("good", "1", 1), ("bad", "0", 3), ("fine", "1", 4), ("poor", "0", 5)]);
    assert_eq!(rows.iter().map(|row| row.pair.as_deref()).collect::<Vec<_>>(), [None, Some("worse"), None, None]);
}

#[test]
fn columns_are_found_by_name_or_by_number() {
    let content = "north,good,1,a\nsouth,bad,0,b\nnorth,fine,1,c\nsouth,poor,0,d\n";
    let by_number = |config: &mut DataConfig| {
        config.header = false;
        config.group_column = Some(Column::Index(0));
        config.text_column = Some(Column::Index(1));
        config.label_column = Some(Column::Index(2));
        config.pair_column = Some(Column::Index(3));
    };
    let numbered = rows(&read("own.csv", content, by_number).unwrap());
    let by_name = |config: &mut DataConfig| {
        config.group_column = Some(Column::Name("site".into()));
        config.text_column = Some(Column::Name("note".into()));
        config.label_column = Some(Column::Name("code".into()));
        config.pair_column = Some(Column::Name("more".into()));
    };
    let named = rows(&read("own.csv", format!("site,note,code,more\n{content}"), by_name).unwrap());
    let values = |rows: &[Record]| {
        rows.iter()
            .map(|row| (row.text.clone(), row.pair.clone(), row.label.clone(), row.origin.group.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&numbered), values(&named));
    assert_eq!(numbered[0].origin.group.as_deref(), Some("north"));
    assert_eq!(numbered[1].pair.as_deref(), Some("b"));
}

#[test]
fn bad_rows_are_named_by_file_and_line() {
    for (name, content, expected) in [
        ("a.csv", "text,label\nx,1\ny\n", "a.csv:3: expected 2 fields, found 1"),
        ("a.csv", "text,label\r\n\"x\r\ny\",1\r\n\r\nz,1,2\r\n", "a.csv:5: expected 2 fields, found 3"),
        (
            "a.csv",
            "text,label\nx,1\ny,\"0\nz,1\n",
            "a.csv:3: expected a closing quote for the field opened on this line, found the end of the file",
        ),
        ("a.tsv", "sentence\tlabel\nx\t1\n \t0\n", "a.tsv:3: expected text in `sentence`, found nothing"),
        ("a.txt", "x\t1\ny\t\n", "a.txt:2: expected text in `column 1`, found nothing"),
        (
            "a.csv",
            "note,label\nx,1\n",
            "a.csv has none of the usual text columns (text, sentence, sentence1, utterance, \
          query); name it with `text-column` (its columns are note, label)",
        ),
        (
            "a.jsonl",
            "{\"text\": \"x\", \"label\": 1}\n\n{\"text\": \"y\"\n",
            "a.jsonl:3: expected one JSON object a line, \
          found invalid JSON: EOF while parsing an object at line 1 column 12",
        ),
        (
            "a.jsonl",
            "{\"text\": \"x\", \"label\": 1}\n{\"text\": \"y\", \"lable\": 0}\n",
            "a.jsonl:2: expected the key \
          `label` or `category` or `intent` or `class`, found lable, text",
        ),
        (
            "a.jsonl",
            "{\"text\": null, \"label\": 1}\n",
            "a.jsonl:1: expected a text that is not empty in `text`, found null",
        ),
        (
            "a.jsonl",
            "{\"text\": \"x\", \"label\": 0.5}\n",
            "a.jsonl:1: expected a text, a whole number or a boolean in \
          `label`, found a number",
        ),
        ("a.csv", "", "a.csv has no rows"),
        ("a.csv", "text,label\n", "a.csv has no rows"),
        (
            "a.parquet",
            "",
            "a.parquet: expected a file ending in .csv, .tsv, .jsonl, .ndjson, .txt or .json, or images; or set `format`",
        ),
    ] {
        assert_eq!(complaint(name, content), expected);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_named_by_line() {
    let message = complaint("a.csv", b"text,label\nx,1\ncaf\xe9,0\n");
    assert_eq!(message, "a.csv:3: expected UTF-8 text, found the byte 0xe9");
}

#[test]
fn a_missing_column_is_named_with_those_there_are() {
    let error = read("a.csv", "text,label\nx,1\n", |config| config.label_column = Some(Column::Name("code".into())));
    assert!(error.unwrap_err().to_string().ends_with("a.csv has no column `code`; its columns are text, label"));
}

const DOMAINS: &str = r#"{"banking": ["balance", "transfer"], "travel": ["book_flight"]}"#;
const INTENTS: &str = r#"{
    "train": [["what do i have", "balance"], ["send money", "transfer"], ["fly me", "book_flight"]],
    "val": [],
    "test": [["how much is left", "balance"]],
    "oos_train": [["who won", "oos"]],
    "oos_test": [["what is love", "oos"]]
}"#;

#[test]
fn clinc_domains_are_groups_and_out_of_scope_rows_are_a_choice() {
    let folder = folder(&[("data_full.json", INTENTS), ("domains.json", DOMAINS)]);
    let mut config = DataConfig::new(folder.path());
    let loaded = LoadedText::load(&config, SEED).unwrap();
    assert_eq!((loaded.train().len(), loaded.test().len()), (3, 1));
    assert_eq!(loaded.group_names(), ["banking", "travel"]);
    assert_eq!(loaded.label_names(), ["balance", "book_flight", "transfer"]);
    config.include_oos = true;
    let loaded = LoadedText::load(&config, SEED).unwrap();
    assert_eq!((loaded.train().len(), loaded.test().len()), (4, 2));
    assert_eq!(loaded.group_names(), ["banking", "oos", "travel"]);
}

#[test]
fn clinc_mistakes_are_named() {
    let stray = folder(&[("data_full.json", INTENTS), ("domains.json", r#"{"banking": ["balance", "transfer"]}"#)]);
    let error = LoadedText::load(&DataConfig::new(stray.path()), SEED).unwrap_err().to_string();
    assert!(error.ends_with("domains.json lists no domain for the intent `book_flight`"), "{error}");
    let broken = folder(&[("data_full.json", "{\n\"train\": [],\n\"test\": [[1, \"a\"]]\n}")]);
    let error = LoadedText::load(&DataConfig::new(broken.path()), SEED).unwrap_err().to_string();
    assert!(error.contains("data_full.json:3: expected lists `train` and `test`"), "{error}");
}

#[test]
fn every_file_of_a_split_is_a_client_in_the_order_of_their_numbers() {
    let line =
        |text: &str, label: u32| format!("{{\"sentence1\": \"{text}\", \"sentence2\": null, \"label\": {label}}}\n");
    let folder = folder(&[
        ("part_10.jsonl", &(line("k", 0) + &line("l", 1))),
        ("part_9.jsonl", &line("i", 1)),
        ("dev.tsv", "sentence\tlabel\nq \t1\n"),
    ]);
    let config = DataConfig { test_path: Some(folder.path().join("dev.tsv")), ..DataConfig::new(folder.path()) };
    let loaded = LoadedText::load(&config, SEED).unwrap();
    assert_eq!(loaded.client_names().unwrap(), ["part_9", "part_10"]);
    assert_eq!(loaded.clients().unwrap(), [vec![0], vec![1, 2]]);
    assert_eq!(texts(loaded.train()), [("i", "1", 1), ("k", "0", 1), ("l", "1", 2)]);
    assert_eq!(texts(loaded.test()), [("q", "1", 2)]);
}

#[test]
fn sentence_files_are_sources_and_each_source_and_label_is_tested() {
    let lines = |name: &str| (0..10).map(|row| format!("{name} {row}.  \t{}\n", row % 2)).collect::<Vec<_>>().concat();
    let folder = folder(&[
        ("yelp_labelled.txt", &lines("food")),
        ("imdb_labelled.txt", &lines("film")),
        ("readme.txt", "This archive holds sentences.\n"),
    ]);
    let config = DataConfig { test_fraction: Some(0.2), ..DataConfig::new(folder.path()) };
    let loaded = LoadedText::load(&config, SEED).unwrap();
    assert_eq!(loaded.client_names().unwrap(), ["imdb", "yelp"]);
    let mut tested: Vec<_> =
        loaded.test().iter().map(|row| (row.origin.group.clone().unwrap(), row.label.clone())).collect();
    tested.sort();
    let strata = [("imdb", "0"), ("imdb", "1"), ("yelp", "0"), ("yelp", "1")];
    assert_eq!(tested, strata.map(|(group, label)| (group.to_owned(), label.to_owned())));
    assert_eq!(loaded.clients().unwrap(), [(0..8).collect::<Vec<u32>>(), (8..16).collect()]);
    assert!(loaded.train().iter().all(|row| !loaded.test().iter().any(|test| test.text == row.text)));
    assert_eq!(LoadedText::load(&config, SEED).unwrap(), loaded);
    assert_ne!(LoadedText::load(&config, Seed(8)).unwrap(), loaded);
}

#[test]
fn a_site_with_its_own_file_alone_holds_out_what_is_held_out_of_it_among_all_files() {
    let lines = |name: &str, labels: u32| {
        (0..40).map(|row| format!("{name} {row}.  \t{}\n", row * row % labels)).collect::<Vec<_>>().concat()
    };
    let folder = folder(&[
        ("imdb_labelled.txt", &lines("film", 3)),
        ("only_no.txt_labelled.txt", &lines("nothing", 1)),
        ("yelp_labelled.txt", &lines("food", 2)),
    ]);
    let all = DataConfig { test_fraction: Some(0.2), ..DataConfig::new(folder.path()) };
    let together = LoadedText::load(&all, SEED).unwrap();
    for (name, rows) in together.client_names().unwrap().iter().zip(together.clients().unwrap()) {
        let own: Vec<_> = rows.iter().map(|row| together.train()[*row as usize].clone()).collect();
        let file = format!("{name}_labelled.txt");
        let alone = DataConfig { path: folder.path().join(&file), ..all.clone() };
        let listed = DataConfig { train_files: vec![file.into()], ..all.clone() };
        for config in [alone, listed] {
            let site = LoadedText::load_site(&config, SEED, together.label_names()).unwrap();
            assert_eq!(texts(site.train()), texts(&own), "{name}");
            let tested = together.test().iter().filter(|row| row.origin.group.as_ref() == Some(name)).cloned();
            assert_eq!(texts(site.test()), texts(&tested.collect::<Vec<_>>()), "{name}");
            assert_eq!(site.label_names(), together.label_names());
        }
    }
}

#[test]
fn a_site_with_a_label_that_the_federation_lacks_is_told_its_line() {
    let folder = folder(&[("a.csv", "text,label\nx,good\ny,ugly\n")]);
    let labels = ["bad".to_owned(), "good".to_owned()];
    let config = DataConfig::new(folder.path().join("a.csv"));
    let error = LoadedText::load_site(&config, SEED, &labels).unwrap_err().to_string();
    assert!(error.ends_with("a.csv:3: the federation has no label `ugly`; its labels are bad, good"), "{error}");
}

#[test]
fn a_folder_of_tables_is_tested_on_its_own_test_file() {
    let folder = folder(&[("train.csv", "text,category\na,x\nb,y\n"), ("test.csv", "text,category\nc,y\n")]);
    let loaded = LoadedText::load(&DataConfig::new(folder.path()), SEED).unwrap();
    assert_eq!((loaded.train().len(), texts(loaded.test())), (2, vec![("c", "y", 2)]));
}

#[test]
fn a_label_that_training_lacks_is_an_error() {
    let folder = folder(&[("train.csv", "text,category\na,x\nb,y\n"), ("test.csv", "text,category\nc,y\nd,z\n")]);
    let error = LoadedText::load(&DataConfig::new(folder.path()), SEED).unwrap_err().to_string();
    assert!(error.ends_with("test.csv:3: label `z` does not occur in the training rows"), "{error}");
}

#[test]
fn limits_sample_rows_without_losing_labels_or_clients() {
    let lines = |label: u32| (0..50).map(|row| format!("text {row}\t{label}\n")).collect::<Vec<_>>().concat();
    let folder = folder(&[("a.txt", &lines(0)), ("b.txt", &(lines(0) + &lines(1)))]);
    let mut config = DataConfig { test_fraction: Some(0.2), ..DataConfig::new(folder.path()) };
    config.max_rows = Some(12);
    config.max_test_rows = Some(3);
    let loaded = LoadedText::load(&config, SEED).unwrap();
    assert_eq!((loaded.train().len(), loaded.test().len(), loaded.label_names().len()), (12, 3, 2));
    let clients = loaded.clients().unwrap();
    assert_eq!(clients.concat(), (0..12).collect::<Vec<u32>>());
    for (client, name) in clients.iter().zip(loaded.client_names().unwrap()) {
        assert!(client.iter().all(|row| loaded.train()[*row as usize].origin.group.as_ref() == Some(name)));
    }
}

#[test]
fn a_configuration_that_cannot_be_meant_is_refused() {
    let content = "text,label\nx,1\ny,0\n";
    let refused = |change: fn(&mut DataConfig)| read("a.csv", content, change).unwrap_err().to_string();
    let none = refused(|config| config.test_fraction = None);
    assert!(
        none.ends_with("a.csv leaves no test rows: set `test-path`, or `test-fraction` where labels have several rows"),
        "{none}"
    );
    let both = refused(|config| config.test_path = Some(Path::new("b.csv").into()));
    assert_eq!(both, "`test-path` and `test-fraction` exclude each other: keep one");
    let all = refused(|config| config.test_fraction = Some(1.0));
    assert_eq!(all, "`test-fraction` is 1, expected a number above 0 and below 1");
    assert_eq!(refused(|config| config.max_rows = Some(0)), "`max-rows` is 0, expected at least 1");
    let one = read("a.csv", "text,label\nx,1\ny,1\n", |_| ()).unwrap_err().to_string();
    assert!(one.ends_with("has the label `1`, expected at least two labels"), "{one}");
    let absent = LoadedText::load(&DataConfig::new("nowhere.csv"), SEED).unwrap_err().to_string();
    assert_eq!(absent, "cannot read nowhere.csv");
}

#[test]
fn a_configuration_is_written_in_kebab_case_and_knows_all_its_keys() {
    let content =
        "{\"format\": \"glue-tsv\", \"path\": \"d\", \"text-column\": \"note\", \"label-column\": 2, \"max-rows\": 9}";
    let config: DataConfig = serde_json::from_str(content).unwrap();
    assert_eq!(config.format, Format::GlueTsv);
    assert_eq!((config.text_column, config.label_column), (Some(Column::Name("note".into())), Some(Column::Index(2))));
    assert_eq!((config.max_rows, config.max_length, config.header), (Some(9), 128, true));
    let error = serde_json::from_str::<DataConfig>("{\"path\": \"d\", \"text_column\": \"note\"}").unwrap_err();
    assert!(error.to_string().contains("unknown field `text_column`"));
}

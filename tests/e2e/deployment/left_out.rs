//! Rows of a language model that have no room for their response are no secret to whoever starts the client.

use std::fs;

use super::site::{Process, Site, program, succeed};

const TINY_LLAMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/decoders/mistral");

#[test]
fn a_client_that_joins_says_how_many_rows_it_leaves_out_and_why() {
    let site = Site::new();
    let row = |place: usize| format!("{{\"prompt\": \"w{place} w5\", \"response\": \"w6\"}}\n");
    let long = format!("{{\"prompt\": \"{}\", \"response\": \"w6\"}}\n", "w7 ".repeat(12));
    site.write("rows.jsonl", (4..16).map(row).collect::<String>() + &long + &long);
    let (_coordinator, _) = site.serve();
    site.enrol("clinic");
    let sections = format!("[model]\npath = '{TINY_LLAMA}'\n[data]\npath = 'rows.jsonl'\nmax-length = 9\n");
    let server = site.server();
    site.write(
        "clinic.toml",
        format!("server = '{server}'\nidentity = 'identity-clinic'\nstate-dir = 'clinic'\nthreads = 1\n{sections}"),
    );
    site.write(
        "job.toml",
        format!(
            "num-rounds = 1\nlocal-steps = 1\nbatch-size = 2\nlearning-rate = 0.01\n[method]\nname = 'fedavg'\n\
             [lora]\nr = 2\ntarget_modules = 'all-linear'\n{sections}"
        ),
    );
    succeed(site.within(program("fedlora-client").args(["describe", "job.toml", "--out", "model.json"])));
    site.operator(&["run", "start", "job.toml", "--model", "model.json"]);
    let log = fs::File::create(site.path("clinic.log")).expect("files can be written");
    let mut join = program("fedlora-client");
    let mut client = Process::spawn(site.within(join.args(["join", "--config", "clinic.toml"])).stderr(log));
    site.wait_for("completed");
    assert_eq!(client.wait(), Some(0));
    let said = fs::read_to_string(site.path("clinic.log")).expect("written");
    assert_eq!(said, "warning: rows left out: 2; prompts leave no room for a response in 9 tokens\n");
}

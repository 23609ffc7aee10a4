//! Same configuration, same seed, same bytes: three institutions with a coordinator against the simulator.

use std::{fs, time::Duration};

use fedlora_adapter::{Purpose, Seed};
use rand::RngExt;

use super::{
    patience,
    site::{Process, Site, program, succeed},
};

const TINY_BERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/tiny_bert");
const SOURCES: [&str; 3] = ["amazon", "imdb", "yelp"];

/// One institution per source, as in `simulations/configs/sentences-minilm.toml`.
fn job(method: &str, rounds: u64) -> String {
    format!(
        "name = '{method}'\nseed = 7\nnum-rounds = {rounds}\nmin-available-clients = 3\nbatch-size = 4\nlearning-rate = 0.01\nevaluate-every = 1000000\n\
         [method]\nname = '{method}'\n[lora]\nr = 2\n[model]\npath = '{TINY_BERT}'\n\
         [data]\nformat = 'sentences'\npath = 'sentences'\ntest-fraction = 0.2\n\
         [data.partition]\nkind = 'column'\npersonal-test-fraction = 0.2\n"
    )
}

/// Forty rows of words that the small model's vocabulary has, different for each source.
fn rows(source: usize) -> String {
    let words = ["good", "bad", "film", "food", "phone", "the", "was", "not"];
    let row = |row: usize| {
        let word = |place: usize| words[(row * 7 + source * 3 + place * (row % 5 + 1)) % words.len()];
        format!("{} {} {}\t{}\n", word(0), word(1), word(2), row % 2)
    };
    (0..40).map(row).collect()
}

/// A coordinator that serves, and three enrolled institutions with their data and configurations.
fn institutions() -> (Site, Process) {
    let site = Site::new();
    for (index, source) in SOURCES.iter().enumerate() {
        site.write(format!("sentences/{source}_labelled.txt"), rows(index));
    }
    let (coordinator, _) = site.serve();
    for source in SOURCES {
        site.enrol(source);
        site.write(format!("{source}.toml"), client(&site, source));
    }
    (site, coordinator)
}

fn join(site: &Site, source: &str) -> Process {
    let config = format!("{source}.toml");
    Process::spawn(site.within(program("fedlora-client").args(["join", "--config", &config])))
}

fn start_run(site: &Site, method: &str, rounds: u64) {
    let config = format!("{method}.toml");
    site.write(&config, job(method, rounds));
    let description = ["describe", &config, "--out", "model.json"];
    succeed(site.within(program("fedlora-client").args(description)));
    site.operator(&["run", "start", &config, "--model", "model.json"]);
}

/// What was exported has the bytes that the simulator makes of the same file.
fn same_as_simulated(site: &Site, method: &str) {
    site.operator(&["export", "--out", method]);
    let config = format!("{method}.toml");
    succeed(site.within(program("fedlora-sim").args(["run", &config, "--out", "simulated", "--threads", "1"])));
    for file in ["adapter_model.safetensors", "adapter_config.json"] {
        let deployed = fs::read(site.path(method).join(file)).expect("exported");
        let simulated = fs::read(site.path("simulated/adapters/global").join(file)).expect("simulated");
        assert!(deployed == simulated, "{method}: {file} differs");
    }
    fs::remove_dir_all(site.path("simulated")).expect("ours");
}

#[test]
fn institutions_and_simulator_make_the_same_adapter() {
    let (site, coordinator) = institutions();
    let clients = SOURCES.map(|source| join(&site, source));
    for method in ["fedsa-lora", "fedsvd", "fedavg"] {
        start_run(&site, method, 2);
        site.wait_for("completed");
        same_as_simulated(&site, method);
    }
    for client in clients {
        assert_eq!(client.terminate(), Some(0), "a client that is told to stop ends well");
    }
    assert_eq!(coordinator.terminate(), Some(0), "a coordinator that is told to stop ends well");
}

/// `FEDLORA_KILLS=200` is the long form.
#[test]
fn a_client_that_is_killed_again_and_again_changes_no_bit() {
    changes_no_bit(|_, client, coordinator| {
        client.kill();
        coordinator
    });
}

/// `FEDLORA_KILLS=200` is the long form.
#[test]
fn client_and_coordinator_that_are_killed_at_once_change_no_bit() {
    changes_no_bit(|site, client, coordinator| {
        client.kill();
        coordinator.kill();
        site.serve().0
    });
}

/// Starts an institution's client again and again, lets `kill` end it after a while, and compares what comes out with the
/// simulator's undisturbed run. `kill` gets the client and the coordinator, and returns the coordinator that serves then.
fn changes_no_bit(kill: impl Fn(&Site, Process, Process) -> Process) {
    let kills: u64 = std::env::var("FEDLORA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let (site, mut coordinator) = institutions();
    let _others = ["amazon", "yelp"].map(|source| join(&site, source));
    // More rounds than the kills leave time for, so that each of them meets a live one.
    let rounds = 40 * kills;
    // FedSA-LoRA: the client keeps its B, so that a round repeated from the wrong state would show.
    start_run(&site, "fedsa-lora", rounds);
    let mut rng = Seed(2).run(Purpose::Data);
    for _ in 0..kills {
        let client = join(&site, "imdb");
        patience::pass(Duration::from_millis(rng.random_range(0..400)));
        coordinator = kill(&site, client, coordinator);
        let run = site.operator(&["run", "list"])["runs"][0].clone();
        let done = run["rounds_done"].as_u64().expect("a number");
        assert!(done < rounds, "the run was over before the last kill");
    }
    let _client = join(&site, "imdb");
    site.operator(&["run", "stop"]);
    let done = site.wait_for("stopped")["rounds_done"].as_u64().expect("a number");
    println!("{kills} kills in {done} rounds");
    // With a constant learning rate a run of as many rounds is the same run.
    site.write("fedsa-lora.toml", job("fedsa-lora", done));
    same_as_simulated(&site, "fedsa-lora");
}

fn client(site: &Site, source: &str) -> String {
    format!(
        "server = '{}'\nidentity = 'identity-{source}'\nstate-dir = 'state-{source}'\nstay = true\nthreads = 1\n\
         [model]\npath = '{TINY_BERT}'\n\
         [data]\nformat = 'sentences'\npath = 'sentences'\ntrain-files = ['{source}_labelled.txt']\n\
         test-fraction = 0.2\npersonal-test-fraction = 0.2\n",
        site.server()
    )
}

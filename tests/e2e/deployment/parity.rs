//! Same configuration, same seed, same bytes: three institutions with a coordinator against the simulator.

use std::fs;

use super::site::{Process, Site, program, succeed};

const TINY_BERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/tiny_bert");
const SOURCES: [&str; 3] = ["amazon", "imdb", "yelp"];

/// One institution per source, as in `simulations/configs/sentences-minilm.toml`.
fn job(method: &str) -> String {
    format!(
        "name = '{method}'\nseed = 7\nnum-rounds = 2\nmin-available-clients = 3\nbatch-size = 4\nlearning-rate = 0.01\n\
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

#[test]
fn institutions_and_simulator_make_the_same_adapter() {
    let site = Site::new();
    for (index, source) in SOURCES.iter().enumerate() {
        site.write(format!("sentences/{source}_labelled.txt"), rows(index));
    }
    let (coordinator, _) = site.serve();
    for source in SOURCES {
        site.enrol(source);
        site.write(format!("{source}.toml"), client(&site, source));
    }
    let clients = SOURCES.map(|source| {
        let config = format!("{source}.toml");
        Process::spawn(site.within(program("fedlora-client").args(["join", "--config", &config])))
    });
    for method in ["fedsa-lora", "fedsvd", "fedavg"] {
        let config = format!("{method}.toml");
        site.write(&config, job(method));
        let description = ["describe", &config, "--out", "model.json"];
        succeed(site.within(program("fedlora-client").args(description)));
        site.operator(&["run", "start", &config, "--model", "model.json"]);
        site.wait_for_the_end();
        site.operator(&["export", "--out", method]);
        succeed(site.within(program("fedlora-sim").args(["run", &config, "--out", "simulated", "--threads", "1"])));
        for file in ["adapter_model.safetensors", "adapter_config.json"] {
            let deployed = fs::read(site.path(method).join(file)).expect("exported");
            let simulated = fs::read(site.path("simulated/adapters/global").join(file)).expect("simulated");
            assert!(deployed == simulated, "{method}: {file} differs");
        }
        fs::remove_dir_all(site.path("simulated")).expect("ours");
    }
    for client in clients {
        assert_eq!(client.terminate(), Some(0), "a client that is told to stop ends well");
    }
    assert_eq!(coordinator.terminate(), Some(0), "a coordinator that is told to stop ends well");
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

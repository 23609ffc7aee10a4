//! Clinics that train together under differential privacy, each with a file of its own and perhaps a budget.

use std::{fs, path::PathBuf, process::Stdio};

use serde_json::Value;

use super::super::site::{Process, Site, fail, program, succeed};

const TINY_BERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/tiny_bert");

/// The `delta` of every guarantee here.
const DELTA: f64 = 1e-3;
/// Expected examples of a step.
const BATCH: u64 = 4;
/// Steps of a round, unless a test asks for more.
pub(super) const STEPS: u32 = 4;
/// Noise that costs little.
pub(super) const NOISE: f64 = 2.0;

/// A clinic: its name, its examples to train on, and the epsilon that it allows, if it trains privately at all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clinic {
    pub(super) name: &'static str,
    pub(super) examples: u64,
    pub(super) limit: Option<f64>,
}

/// What a run asks of its clients.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) rounds: u64,
    pub(super) clients: usize,
    pub(super) local_steps: u32,
    /// Keys of `[privacy]` that say how much noise; none for plain training.
    pub(super) noise: Option<String>,
}

impl Ask {
    /// Private rounds of one client at [`NOISE`].
    pub(super) fn rounds(rounds: u64) -> Self {
        Self { rounds, clients: 1, local_steps: STEPS, noise: Some(format!("noise-multiplier = {NOISE:?}")) }
    }

    fn to_toml(&self) -> String {
        let Self { rounds, clients, local_steps, noise } = self;
        let section = |noise: &String| format!("[privacy]\nmax-grad-norm = 1.0\ntarget-delta = {DELTA:?}\n{noise}\n");
        let privacy = noise.as_ref().map(section).unwrap_or_default();
        format!(
            "name = 'clinics'\nnum-rounds = {rounds}\nmin-available-clients = {clients}\nmin-results = {clients}\n\
             weighting = 'uniform'\nlocal-steps = {local_steps}\nbatch-size = {BATCH}\nlearning-rate = 0.01\n{privacy}\
             [method]\nname = 'fedavg'\n[lora]\nr = 2\n[model]\npath = '{TINY_BERT}'\n\
             [data]\nformat = 'sentences'\npath = 'sentences'\ntest-fraction = 0.2\n"
        )
    }
}

/// A coordinator, and clinics that are enrolled with it.
#[derive(Debug)]
pub(super) struct Federation {
    pub(super) site: Site,
    _coordinator: Process,
}

impl Federation {
    pub(super) fn new(clinics: &[Clinic]) -> Self {
        let site = Site::new();
        let (coordinator, _) = site.serve();
        let federation = Self { site, _coordinator: coordinator };
        for clinic in clinics {
            federation.site.write(format!("sentences/{}_labelled.txt", clinic.name), rows(clinic.examples));
            federation.site.enrol(clinic.name);
            federation.configure(*clinic, &federation);
        }
        federation
    }

    /// Writes a clinic's file, to join `elsewhere` as whom it knows under this name.
    pub(super) fn configure(&self, clinic: Clinic, elsewhere: &Self) {
        let Clinic { name, limit, .. } = clinic;
        let section = |limit: f64| format!("[privacy]\nepsilon-limit = {limit:?}\ndelta = {DELTA:?}\n");
        let (budget, server) = (limit.map(section).unwrap_or_default(), elsewhere.site.server());
        let identity = elsewhere.site.path(format!("identity-{name}"));
        let text = format!(
            "server = '{server}'\nidentity = '{}'\nstate-dir = 'state-{name}'\nthreads = 1\n{budget}\
             [model]\npath = '{TINY_BERT}'\n[data]\nformat = 'sentences'\npath = 'sentences'\n\
             train-files = ['{name}_labelled.txt']\ntest-fraction = 0.2\n",
            identity.display()
        );
        self.site.write(format!("{name}.toml"), text);
    }

    pub(super) fn start(&self, ask: &Ask) {
        self.site.write("run.toml", ask.to_toml());
        succeed(self.site.within(program("fedlora-client").args(["describe", "run.toml", "--out", "model.json"])));
        self.site.operator(&["run", "start", "run.toml", "--model", "model.json"]);
    }

    /// Starts a clinic's client; it ends with the run.
    pub(super) fn join(&self, name: &str) -> Joined {
        let log = self.site.path(format!("{name}.log"));
        let file = fs::File::create(&log).expect("a log can be written");
        let mut command = program("fedlora-client");
        command.args(["join", "--config", &format!("{name}.toml")]).stdout(Stdio::null()).stderr(file);
        Joined { process: Process::spawn(self.site.within(&mut command)), log }
    }

    /// What a command about a clinic's ledgers answers for each of them.
    pub(super) fn ledgers(&self, command: &str, name: &str) -> Vec<Value> {
        let config = format!("{name}.toml");
        let arguments = ["ledger", command, "--config", &config, "--format", "json"];
        let output = succeed(self.site.within(program("fedlora-client").args(arguments)));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        answer["data"]["ledgers"].as_array().expect("a list").clone()
    }

    /// A clinic's only ledger.
    #[track_caller]
    pub(super) fn ledger(&self, name: &str) -> Value {
        let ledgers = self.ledgers("show", name);
        assert_eq!(ledgers.len(), 1, "{ledgers:?}");
        ledgers[0].clone()
    }

    /// A command about a clinic's ledgers that must fail: its exit code and what it says.
    pub(super) fn ledger_fails(&self, command: &str, name: &str) -> (Option<i32>, String) {
        fail(&self.site, "fedlora-client", &["ledger", command, "--config", &format!("{name}.toml")])
    }

    /// What so many rounds at [`NOISE`] cost a clinic, by the simulator's calculator.
    pub(super) fn cost(&self, clinic: Clinic, rounds: u64) -> f64 {
        let rate = BATCH as f64 / clinic.examples as f64;
        let mut command = program("fedlora-sim");
        command.args(["privacy", "epsilon", "--format", "json"]);
        let steps = u64::from(STEPS) * rounds;
        for (option, value) in [
            ("--noise-multiplier", NOISE.to_string()),
            ("--sample-rate", rate.to_string()),
            ("--steps", steps.to_string()),
            ("--delta", DELTA.to_string()),
        ] {
            command.args([option, &value]);
        }
        let output = succeed(self.site.within(&mut command));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        answer["data"]["epsilon"].as_f64().expect("a number")
    }

    /// A limit that such rounds keep to and one more would not.
    pub(super) fn limit(&self, clinic: Clinic, rounds: u64) -> f64 {
        self.cost(clinic, rounds) * 1.001
    }

    /// Nothing that the coordinator has written down tells of a clinic's books.
    pub(super) fn tells_nothing(&self) {
        let events = self.site.operator(&["log"])["events"].to_string();
        for word in ["epsilon", "BUDGET", "LEDGER", "ledger", "exhausted"] {
            assert!(!events.contains(word), "{word} is in {events}");
        }
    }
}

/// A client that was started.
#[derive(Debug)]
pub(super) struct Joined {
    process: Process,
    log: PathBuf,
}

impl Joined {
    /// Kills it.
    pub(super) fn kill(self) {
        self.process.kill();
    }

    /// Waits for its end; what it said.
    #[track_caller]
    pub(super) fn ends_with(mut self, code: i32) -> String {
        let ended = self.process.wait();
        let said = fs::read_to_string(&self.log).expect("it is there");
        assert_eq!(ended, Some(code), "{said}");
        said
    }

    /// Waits for its end as one that may not train, for this reason.
    #[track_caller]
    pub(super) fn stops_with(self, code: &str) {
        let said = self.ends_with(3);
        assert!(said.contains(code), "{code} is not in {said}");
    }
}

/// Rows of which so many are left to train on when a fifth is held out.
fn rows(examples: u64) -> String {
    assert!(examples.is_multiple_of(8), "a fifth of each label is whole");
    let words = ["good", "bad", "film", "food", "phone", "the", "was", "not"];
    let row = |row: usize| {
        let word = |place: usize| words[(row * 7 + place * (row % 5 + 1)) % words.len()];
        format!("{} {} {}\t{}\n", word(0), word(1), word(2), row % 2)
    };
    (0..examples as usize * 5 / 4).map(row).collect()
}

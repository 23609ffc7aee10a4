//! Settings that make no sense are refused with code 2 before anything is written.

use crate::support::Place;

/// The run is refused with this evidence, and leaves no directory.
#[track_caller]
fn refused(place: &Place, arguments: &str, evidence: &[&str]) {
    place.sim(&format!("{arguments} --out run")).fails(2, evidence);
    assert!(!place.exists("run"), "{arguments} left a run directory");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let place = Place::with_sentences();
    for (key, nearest) in [
        ("learning-rat", "learning-rate"),
        ("lora.alpha", "lora_alpha"),
        ("data.pth", "path"),
        ("data.partition.alfa", "alpha"),
        ("faults.dropout", "dropout-rate"),
    ] {
        let unknown = format!("unknown key {}", key.rsplit('.').next().unwrap_or(key));
        refused(&place, &format!("run job.toml --set {key}=1"), &[&unknown, &format!("did you mean {nearest}?")]);
    }
}

#[test]
fn an_unknown_method_is_refused_with_the_nearest_known_one() {
    let place = Place::with_sentences();
    refused(&place, "run job.toml --set method.name=fedsdv", &["\"fedsdv\"", "\"fedsvd\""]);
    refused(&place, "compare job.toml --methods fedsvd,lora-fare", &["\"lora-fare\"", "\"lora-fair\""]);
}

#[test]
fn a_parameter_of_another_method_is_refused() {
    let place = Place::with_sentences();
    refused(&place, "run job.toml --set method.lambda=0.1", &["method fedavg", "\"lambda\""]);
}

#[test]
fn a_method_that_cannot_serve_the_adapter_is_refused_when_the_configuration_is_read() {
    let place = Place::with_sentences();
    let settings = "job.toml --set method.name=lora-fair --set lora.peft_type=VERA";
    place.sim(&format!("config check {settings}")).fails(2, &["lora-fair", "Vera"]);
    refused(&place, &format!("run {settings}"), &["lora-fair", "Vera"]);
}

#[test]
fn a_comparison_is_refused_before_its_first_run_if_its_last_method_cannot_serve_the_adapter() {
    let place = Place::with_sentences();
    refused(&place, "compare job.toml --set lora.peft_type=VERA --methods lora-fair", &["lora-fair", "Vera"]);
}

#[test]
fn first_directions_come_from_public_rows_or_not_at_all() {
    let place = Place::with_sentences();
    let run = |settings: &str| format!("run job.toml --set lora.init_lora_weights=eva {settings}");
    refused(&place, &run(""), &["lora.eva_config", "public rows"]);
    refused(&place, "run job.toml --set lora.eva_config.data.path=data/test.csv", &["lora.eva_config", "\"eva\""]);
    let private = "--set weighting=uniform --set privacy.max-grad-norm=1 --set privacy.target-delta=1e-4 \
                   --set privacy.noise-multiplier=1 --set local-steps=3";
    let own = run(&format!("--set lora.eva_config.data.path=./data/train.csv {private}"));
    refused(&place, &own, &["lora.eva_config.data", "own rows"]);
    place.write("public.csv", format!("text,label\n{}", "some public words,0\n".repeat(5)));
    refused(&place, &run("--set lora.eva_config.data.pth=public.csv"), &["pth", "path"]);
    let few = place.sim(&run("--set lora.eva_config.data.path=public.csv --set lora.r=8"));
    few.fails(3, &["vary in", "fewer than its rank of 8", "lora.eva_config"]);
    place.write("more.csv", place.read("data/test.csv"));
    place.sim(&run(&format!("--out out --set lora.eva_config.data.path=more.csv {private}"))).succeeds();
}

#[test]
fn malformed_toml_is_refused_with_its_line() {
    let place = Place::new();
    place.write("broken.toml", "num-rounds = 2\nlearning-rate = = 1\n");
    refused(&place, "run broken.toml", &["broken.toml is not valid TOML", "line 2"]);
    place.sim("config show broken.toml").fails(2, &["broken.toml", "line 2"]);
    refused(&place, "run absent.toml", &["cannot read absent.toml"]);
}

#[test]
fn malformed_overrides_are_refused_as_they_were_written() {
    let place = Place::with_sentences();
    refused(&place, "run job.toml --set lora.r", &["--set \"lora.r\"", "expected key=value"]);
    refused(&place, "run job.toml --set =4", &["--set \"=4\"", "expected key=value"]);
    refused(&place, "run job.toml --set lora.r.x=4", &["--set \"lora.r.x=4\"", "r is not a table"]);
    refused(&place, "run job.toml --set lora.r=four", &["lora.r", "\"four\""]);
    refused(&place, "run job.toml --set num-rounds=-1", &["num-rounds", "-1"]);
    refused(&place, "sweep job.toml --grid lora.r", &["lora.r", "expected key=value"]);
    refused(&place, "sweep job.toml --grid seed=1,2", &["seed", "--seeds"]);
}

#[test]
fn demands_on_clients_that_the_partition_cannot_meet_are_refused() {
    let place = Place::with_sentences();
    refused(&place, "run job.toml --set min-available-clients=4", &["min-available-clients is 4", "3 clients"]);
    refused(&place, "run job.toml --set min-results=3 --set clients-per-round=2", &["3", "2"]);
}

#[test]
fn a_directory_that_holds_a_run_is_left_as_it_is() {
    let place = Place::with_sentences();
    place.sim("run job.toml --out run").succeeds();
    let before = place.tree("run");
    place.sim("run job.toml --out run").fails(5, &["run already holds a run", "--resume"]);
    let other = "run job.toml --out run --resume --set learning-rate=0.5";
    place.sim(other).fails(5, &["run/config.toml was written by another configuration"]);
    assert!(place.tree("run") == before, "a refused run has changed the directory");
}

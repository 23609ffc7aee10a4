//! A clinic whose rows are its patients' records, several of each.

use std::fs;

use super::{
    clinics::{Ask, Clinic, Federation, NOISE},
    has_rounds,
};

const PATIENTS: u64 = 8;
const CLINIC: Clinic = Clinic { name: "wards", examples: 32, limit: Some(8.0) };

#[test]
fn a_ledger_of_patients_counts_patients_and_refuses_runs_that_protect_single_records() {
    let federation = Federation::new(&[CLINIC]);
    let records = (0..CLINIC.examples).map(|row| format!("good film,{},{}\n", row % 2, row % PATIENTS));
    federation.site.write("records.csv", format!("text,label,patient\n{}", records.collect::<String>()));
    let file = fs::read_to_string(federation.site.path("wards.toml")).expect("it was written");
    let file = file
        .replace("delta = ", "unit = 'user'\ndelta = ")
        .replace("format = 'sentences'\npath = 'sentences'\n", "path = 'records.csv'\nuser-column = 'patient'\n")
        .replace("train-files = ['wards_labelled.txt']\ntest-fraction = 0.2\n", "");
    federation.site.write("wards.toml", file);
    federation.start(&Ask { noise: Some(format!("noise-multiplier = {NOISE:?}\nunit = 'user'")), ..Ask::rounds(2) });
    federation.join(CLINIC.name).ends_with(0);
    let ledger = federation.ledger(CLINIC.name);
    has_rounds(&ledger, 2);
    assert_eq!((&ledger["unit"], &ledger["units"]), (&"user".into(), &PATIENTS.into()), "{ledger}");
    // The cost of eight units, half of which are in a sample: the same as that of eight examples.
    let (epsilon, cost) =
        (ledger["epsilon"].as_f64().expect("a number"), federation.cost(Clinic { examples: PATIENTS, ..CLINIC }, 2));
    assert!((epsilon / cost - 1.0).abs() < 1e-9, "the ledger has {epsilon}, the calculator {cost}");
    federation.start(&Ask::rounds(1));
    federation.join(CLINIC.name).stops_with("OTHER_UNIT");
    assert_eq!(federation.site.wait_for("failed")["rounds_done"], 0);
    assert_eq!(federation.ledger(CLINIC.name), ledger);
}

//! The systemd units.

use crate::files::{check, commands, ports_after, read, without_comments};

const UNITS: [&str; 2] = ["fedlora-coordinator", "fedlora-client"];

fn unit(name: &str) -> String {
    without_comments(&format!("systemd/{name}.service"))
}

/// All values of a key.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn units_start_their_program_and_nothing_else() {
    for name in UNITS {
        let unit = unit(name);
        let program = format!("/usr/local/bin/{name} ");
        assert!(values(&unit, "ExecStart").iter().all(|line| line.starts_with(&program)), "{unit}");
        assert_eq!(values(&unit, "ExecStart").len(), 1, "{unit}");
        assert!(values(&unit, "ExecStartPre").iter().all(|line| line.contains(&program)), "{unit}");
        // What the head of the file says to install is what is started.
        let head = read(&format!("systemd/{name}.service"));
        assert!(head.contains(&format!("install target/dist/{name} /usr/local/bin/")), "{head}");
    }
}

#[test]
fn the_coordinator_understands_what_its_unit_says() {
    let unit = unit("fedlora-coordinator");
    let commands = commands(&unit, "/usr/local/bin/fedlora-coordinator");
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        check(&command);
    }
    assert_eq!(ports_after(&unit, "--set listen="), ["8443".to_owned()].into());
    assert_eq!(ports_after(&unit, "--set http-listen="), ["8480".to_owned()].into());
}

#[test]
fn units_write_only_below_their_state_directory() {
    for name in UNITS {
        let unit = unit(name);
        assert_eq!(values(&unit, "StateDirectory"), [name]);
        let written = unit.split_whitespace().filter(|word| word.contains("%S")).collect::<Vec<_>>();
        assert!(written.len() >= 3, "{written:?}");
        assert!(written.iter().all(|word| word.contains(&format!("%S/{name}"))), "{written:?}");
    }
}

#[test]
fn units_are_hardened() {
    let wanted = [
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("PrivateTmp", "yes"),
        ("UMask", "0077"),
        ("Restart", "always"),
    ];
    for name in UNITS {
        let unit = unit(name);
        for (key, value) in wanted {
            assert_eq!(values(&unit, key), [value], "{name}: {key}");
        }
    }
}

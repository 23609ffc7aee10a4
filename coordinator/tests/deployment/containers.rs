//! Images, the compose file and the Kubernetes manifest.

use crate::files::{at, below, check, commands, documents, ports_after, read, without_comments};

const PROGRAMS: [&str; 2] = ["fedlora-coordinator", "fedlora-client"];
const STATE: &str = "/var/lib/fedlora";

fn dockerfile(program: &str) -> String {
    without_comments(&format!("{}.Dockerfile", program.trim_start_matches("fedlora-")))
}

/// The arguments of an instruction in its JSON form.
fn instruction(file: &str, name: &str) -> Vec<String> {
    let line = file.lines().map(str::trim).find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {name} in {file}"));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn images_build_with_the_workspace_compiler_and_run_as_nobody_in_particular() {
    let manifest = include_str!("../../../Cargo.toml");
    let version =
        manifest.split("rust-version = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("it is said");
    for program in PROGRAMS {
        let file = dockerfile(program);
        assert!(file.contains(&format!("FROM rust:{version}-slim")), "{file}");
        assert!(file.contains(&format!("--profile dist --package {program}")), "{file}");
        for line in ["USER 10001:10001", &format!("VOLUME {STATE}"), "HEALTHCHECK"] {
            assert!(file.contains(line), "{line} is not in {file}");
        }
        assert_eq!(instruction(&file, "ENTRYPOINT"), [format!("/usr/local/bin/{program}")]);
    }
}

#[test]
fn the_coordinator_image_serves_where_its_health_is_asked() {
    let file = dockerfile("fedlora-coordinator");
    let arguments = instruction(&file, "CMD");
    check(&format!("fedlora-coordinator {}", arguments.join(" ")));
    assert!(arguments.contains(&format!("state-dir={STATE}")), "{arguments:?}");
    assert_eq!(ports_after(&file, "\"listen="), ["8443".to_owned()].into());
    assert_eq!(ports_after(&file, "\"http-listen="), ["8480".to_owned()].into());
    assert!(file.contains("EXPOSE 8443 8480") && file.contains("/dev/tcp/127.0.0.1/8480"), "{file}");
}

#[test]
fn compose_starts_one_coordinator_and_three_clients() {
    let compose = &documents("compose.yaml")[0];
    let image = |image: &str| {
        let services = compose
            .iter()
            .filter(|(place, value)| place.starts_with("services.") && place.ends_with("<<.image") && value == image);
        services.filter_map(|(place, _)| place.split('.').nth(1)).collect::<Vec<_>>()
    };
    assert_eq!(image("fedlora-client"), ["amazon", "imdb", "yelp"]);
    assert_eq!(image("fedlora-coordinator"), ["authority", "coordinator", "enrolment", "operator"]);
    for program in ["coordinator", "client"] {
        let file = at(compose, &format!("x-{program}.build.dockerfile"));
        assert_eq!(file, format!("deploy/{program}.Dockerfile"));
        assert_eq!(at(compose, &format!("x-{program}.build.context")), "..");
    }
}

#[test]
fn compose_clients_find_their_own_token_and_file() {
    let compose = &documents("compose.yaml")[0];
    let script = at(compose, "services.enrolment.command.0");
    for name in ["amazon", "imdb", "yelp"] {
        assert!(script.contains(name), "no token for {name}: {script}");
        assert_eq!(at(compose, &format!("services.{name}.environment.CLIENT_NAME")), name);
        assert_eq!(at(compose, &format!("services.{name}.configs.0.source")), name);
        assert_eq!(at(compose, &format!("services.{name}.configs.0.target")), "/etc/fedlora/client.toml");
        let text = at(compose, &format!("configs.{name}.content"));
        let config: toml::Table = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(config["server"].as_str(), Some("https://coordinator:8443"));
        assert!(config["data"]["path"].as_str().is_some_and(|path| path.starts_with("/data/") && path.contains(name)));
        let volumes = below(compose, &format!("services.{name}.volumes"));
        assert!(volumes.contains(&format!("{name}:{STATE}").as_str()), "{volumes:?}");
        for folder in ["/model:ro", "/data:ro", "/tokens:ro"] {
            assert!(volumes.iter().any(|volume| volume.ends_with(folder)), "{name} does not see {folder}");
        }
    }
}

#[test]
fn what_runs_in_containers_understands_its_arguments() {
    let mut checked = 0;
    for name in ["compose.yaml", "kubernetes.yaml"] {
        for document in documents(name) {
            for (_, value) in document.iter().filter(|(_, value)| value.contains(' ')) {
                for command in commands(value, "fedlora-coordinator") {
                    check(&command);
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, 3, "authority in both, tokens in one");
    let manifest = kind("StatefulSet");
    let container = "spec.template.spec.containers.0";
    check(&format!("fedlora-coordinator {}", below(&manifest, &format!("{container}.args")).join(" ")));
}

fn kind(kind: &str) -> crate::files::Flat {
    let found = documents("kubernetes.yaml").into_iter().find(|document| at(document, "kind") == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn kubernetes_probes_and_services_lead_to_ports_that_are_served() {
    let set = kind("StatefulSet");
    let container = "spec.template.spec.containers.0";
    let at = |place: &str| at(&set, &format!("{container}.{place}")).to_owned();
    assert_eq!((at("ports.0.name"), at("ports.0.containerPort")), ("grpc".to_owned(), "8443".to_owned()));
    assert_eq!((at("ports.1.name"), at("ports.1.containerPort")), ("http".to_owned(), "8480".to_owned()));
    assert_eq!(
        (at("livenessProbe.httpGet.path"), at("livenessProbe.httpGet.port")),
        ("/healthz".into(), "http".into())
    );
    assert_eq!(
        (at("readinessProbe.httpGet.path"), at("readinessProbe.httpGet.port")),
        ("/readyz".into(), "http".into())
    );
    let text = read("kubernetes.yaml");
    assert_eq!(ports_after(&text, "--set=listen="), ["8443".to_owned()].into());
    assert_eq!(ports_after(&text, "--set=http-listen="), ["8480".to_owned()].into());
}

#[test]
fn kubernetes_selects_its_own_pods_and_keeps_their_state() {
    for kind_of in ["StatefulSet", "Deployment"] {
        let document = kind(kind_of);
        let label = at(&document, "spec.selector.matchLabels.app");
        assert_eq!(at(&document, "spec.template.metadata.labels.app"), label);
        assert_eq!(at(&document, "spec.template.spec.containers.0.image"), label, "image and label have one name");
        assert_eq!(at(&document, "spec.template.spec.containers.0.volumeMounts.0.mountPath"), STATE);
        assert_eq!(at(&document, "spec.template.spec.securityContext.runAsNonRoot"), "true");
    }
    assert_eq!(at(&kind("StatefulSet"), "spec.volumeClaimTemplates.0.metadata.name"), "state");
    let config: toml::Table = at(&kind("ConfigMap"), "data.client.toml").parse().expect("valid TOML");
    assert_eq!(config["server"].as_str(), Some("https://fedlora-coordinator:8443"));
}

#[test]
fn everybody_asks_the_coordinator_at_the_port_where_it_listens() {
    for name in ["compose.yaml", "kubernetes.yaml", "systemd/fedlora-client.service"] {
        assert_eq!(ports_after(&read(name), "https://"), ["8443".to_owned()].into(), "{name}");
    }
    let compose = &documents("compose.yaml")[0];
    assert_eq!(below(compose, "services.coordinator.ports"), ["8443:8443", "127.0.0.1:8480:8480"]);
}

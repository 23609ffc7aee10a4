//! The register's rules, without a network.

mod tokens;

use std::{fs, os::unix::fs::PermissionsExt as _};

use fedlora_adapter::ClientId;
use fedlora_proto::{
    federation::EnrolResponse,
    operator::{ClientRequest, CreateTokenRequest},
};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tempfile::TempDir;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::*;
use crate::identity::pki::{MAX_CLIENT_LIFETIME_MS, PeerCertificate, PkiPaths, init_pki};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const HOUR: u64 = 3_600_000;

/// A state directory with an authority and an open register.
struct World {
    registry: Registry,
    state: TempDir,
}

impl World {
    fn new() -> Self {
        Self::with(RegistrySettings::default())
    }

    fn with(settings: RegistrySettings) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        init_pki(&state.path().join("pki"), &[], NOW).expect("an authority");
        let registry = Registry::open_with(state.path(), settings).expect("a register");
        Self { registry, state }
    }

    /// The same files, opened again.
    fn restarted(self) -> Self {
        let Self { registry, state } = self;
        drop(registry);
        let registry = Registry::open(state.path()).expect("a register");
        Self { registry, state }
    }

    fn token(&self, name: &str) -> String {
        self.try_token(request(name)).expect("a token")
    }

    fn try_token(&self, request: CreateTokenRequest) -> Result<String, IdentityError> {
        self.registry.create_token(request, NOW).map(|(_, token)| token)
    }

    fn enrol(&self, name: &str) -> (EnrolResponse, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        (self.registry.enrol(&self.token(name), &csr(&key), NOW).expect("enrolled"), key)
    }

    fn holder(&self, issued: &EnrolResponse, now: Timestamp) -> Result<Peer, IdentityError> {
        self.registry.holder_of(&certificate(issued), now)
    }
}

fn request(name: &str) -> CreateTokenRequest {
    CreateTokenRequest { name: name.into(), role: "client".into(), ttl_ms: HOUR, ..CreateTokenRequest::default() }
}

fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).expect("a request").pem().expect("PEM")
}

fn fresh_csr() -> String {
    csr(&KeyPair::generate().expect("a key"))
}

fn certificate(issued: &EnrolResponse) -> PeerCertificate {
    let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).expect("PEM");
    PeerCertificate::new(der).expect("a certificate")
}

fn reason<T: std::fmt::Debug>(result: Result<T, IdentityError>) -> &'static str {
    result.expect_err("refused").reason()
}

#[test]
fn an_enrolled_client_is_known_by_its_key_and_by_its_token_until_both_end() {
    let world = World::new();
    let token = world.try_token(CreateTokenRequest { institution: "North".into(), ..request("site-1") });
    let issued = world.registry.enrol(&token.expect("a token"), &fresh_csr(), NOW).expect("enrolled");
    let end = Timestamp(issued.not_after_ms);
    assert_eq!(end, NOW + MAX_CLIENT_LIFETIME_MS);

    let last = Timestamp(end.0 - 1);
    let peer = world.holder(&issued, last).expect("known");
    let expected = ("site-1", "North", Role::Client, ClientId(0));
    assert_eq!((peer.name.as_str(), peer.institution.as_str(), peer.role, peer.client), expected);
    assert_eq!(world.registry.bearer_of(&issued.access_token, last).expect("known"), peer);

    assert_eq!(reason(world.holder(&issued, end)), "CERTIFICATE_EXPIRED");
    assert_eq!(reason(world.registry.bearer_of(&issued.access_token, end)), "TOKEN_EXPIRED");
}

#[test]
fn a_certificate_says_what_the_register_says_and_not_what_the_request_asks_for() {
    let world = World::new();
    let key = KeyPair::generate().expect("a key");
    let mut asked = CertificateParams::new(["coordinator.example".to_owned()]).expect("names");
    asked.distinguished_name.push(DnType::CommonName, "operator");
    asked.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    asked.subject_alt_names.push(SanType::URI("fedlora:client/99".try_into().expect("a URI")));
    asked.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let asked = asked.serialize_request(&key).expect("a request").pem().expect("PEM");
    let issued = world.registry.enrol(&world.token("site-1"), &asked, NOW).expect("enrolled");

    let der = certificate(&issued).der;
    let (_, found) = X509Certificate::from_der(&der).expect("a certificate");
    let names: Vec<_> = found.subject().iter_common_name().map(|name| name.as_str().expect("text")).collect();
    assert_eq!(names, ["site-1"]);
    let alternatives = found.subject_alternative_name().expect("readable").expect("present");
    assert_eq!(alternatives.value.general_names, [GeneralName::URI("fedlora:client/0")]);
    let usage = found.extended_key_usage().expect("readable").expect("present").value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any && !found.is_ca());
    assert_eq!(found.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
    assert_eq!(issued.ca_pem, fs::read_to_string(PkiPaths::of_state(world.state.path()).ca).expect("a file"));
}

#[test]
fn numbers_are_the_ones_asked_for_or_the_next_free_ones() {
    let world = World::new();
    let number = |name: &str| world.enrol(name).0.client_id;
    assert_eq!((number("a"), number("b")), (0, 1));
    let asked = CreateTokenRequest { client_id: Some(3), ..request("c") };
    let token = world.try_token(asked).expect("a token");
    assert_eq!((number("d"), number("e")), (2, 4), "3 is promised to c");
    assert_eq!(world.registry.enrol(&token, &fresh_csr(), NOW).expect("enrolled").client_id, 3);
    let operator = CreateTokenRequest { role: "operator".into(), ..request("root") };
    let token = world.try_token(operator).expect("a token");
    assert_eq!(world.registry.enrol(&token, &fresh_csr(), NOW).expect("enrolled").client_id, 1 << 32);
    assert_eq!(number("f"), 5);
    for taken in [0, 3, 1 << 32] {
        let asked = CreateTokenRequest { client_id: Some(taken), ..request("g") };
        assert_eq!(reason(world.try_token(asked)), "NUMBER_TAKEN");
    }
}

#[test]
fn a_revoked_client_comes_back_under_its_name_and_number_with_a_new_key() {
    let world = World::new();
    world.enrol("first");
    let (before, key) = world.enrol("site-1");
    world.registry.revoke(ClientId(1), NOW).expect("revoked");

    let other = CreateTokenRequest { client_id: Some(7), ..request("site-1") };
    assert_eq!(reason(world.try_token(other)), "NAME_TAKEN", "a name keeps its number");
    let thief = CreateTokenRequest { client_id: Some(1), ..request("site-9") };
    assert_eq!(reason(world.try_token(thief)), "NUMBER_TAKEN", "a number keeps its name");

    let token = world.token("site-1");
    assert_eq!(reason(world.registry.enrol(&token, &csr(&key), NOW)), "BAD_CSR", "a revoked key never comes back");
    let after = world.registry.enrol(&token, &fresh_csr(), NOW).expect("enrolled");
    assert_eq!(after.client_id, 1);
    assert!(world.holder(&after, NOW).is_ok());
    assert_eq!(reason(world.holder(&before, NOW)), "REVOKED");
    assert_eq!(reason(world.registry.bearer_of(&before.access_token, NOW)), "REVOKED");
}

#[test]
fn revoking_ends_every_right_at_once_and_is_told_to_listeners() {
    let world = World::new();
    let (issued, _) = world.enrol("site-1");
    let mut heard = world.registry.revocations();
    let peer = world.holder(&issued, NOW).expect("known");
    let summary = world.registry.revoke(ClientId(0), NOW).expect("revoked");
    assert_eq!(summary.state, "revoked");
    assert_eq!(heard.try_recv(), Ok(ClientId(0)));
    assert_eq!(reason(world.holder(&issued, NOW)), "REVOKED");
    assert_eq!(reason(world.registry.bearer_of(&issued.access_token, NOW)), "REVOKED");
    assert_eq!(reason(world.registry.renew(&peer, &fresh_csr(), NOW)), "REVOKED");
    assert_eq!(reason(world.registry.set_drained(ClientId(0))), "REVOKED");
    assert_eq!(reason(world.registry.revoke(ClientId(9), NOW)), "CLIENT_UNKNOWN");
    let world = world.restarted();
    assert!(world.registry.is_revoked(ClientId(0)));
    assert_eq!(reason(world.holder(&issued, NOW)), "REVOKED");
}

#[test]
fn a_renewal_leaves_the_older_certificate_valid_until_it_ends() {
    let world = World::new();
    let (old, _) = world.enrol("site-1");
    let later = NOW + HOUR;
    let peer = world.holder(&old, later).expect("known");
    let new = world.registry.renew(&peer, &fresh_csr(), later).expect("renewed");
    assert_eq!((new.client_id, new.not_after_ms), (0, old.not_after_ms + HOUR));
    assert_eq!(world.holder(&old, later).expect("known"), world.holder(&new, later).expect("known"));
    assert!(world.registry.bearer_of(&old.access_token, later).is_ok());
    let end = Timestamp(old.not_after_ms);
    assert_eq!(reason(world.holder(&old, end)), "CERTIFICATE_EXPIRED");
    assert!(world.holder(&new, end).is_ok());
    let world = world.restarted();
    assert!(world.holder(&new, end).is_ok());
}

#[test]
fn a_key_may_stay_the_same_but_may_not_be_anybody_elses() {
    let world = World::new();
    let ((first, key), (second, _)) = (world.enrol("a"), world.enrol("b"));
    let (a, b) = (world.holder(&first, NOW).expect("known"), world.holder(&second, NOW).expect("known"));
    assert!(world.registry.renew(&a, &csr(&key), NOW).is_ok());
    assert_eq!(reason(world.registry.renew(&b, &csr(&key), NOW)), "BAD_CSR");
    assert_eq!(reason(world.registry.enrol(&world.token("c"), &csr(&key), NOW)), "BAD_CSR");
}

#[test]
fn a_client_that_renews_without_end_is_stopped_and_keeps_what_it_has() {
    let world = World::new();
    let (issued, _) = world.enrol("site-1");
    let peer = world.holder(&issued, NOW).expect("known");
    let renew = |now| world.registry.renew(&peer, &fresh_csr(), now);
    assert!((1..8).all(|_| renew(NOW).is_ok()));
    assert_eq!(reason(renew(NOW)), "TOO_MANY_CERTIFICATES");
    assert!(world.holder(&issued, NOW).is_ok());
    assert!(renew(NOW + MAX_CLIENT_LIFETIME_MS).is_ok(), "those that have ended do not count");
}

#[test]
fn an_institution_has_no_more_clients_than_it_may_have() {
    let world = World::with(RegistrySettings { max_clients_per_institution: 2, ..RegistrySettings::default() });
    let of =
        |name: &str, role: &str| CreateTokenRequest { institution: "North".into(), role: role.into(), ..request(name) };
    let first = world.try_token(of("a", "client")).expect("a token");
    let second = world.try_token(of("b", "client")).expect("a token");
    assert_eq!(reason(world.try_token(of("c", "client"))), "TOO_MANY_CLIENTS", "open tokens count");
    assert!(world.try_token(of("o", "operator")).is_ok(), "who has no vote does not");
    for token in [first, second] {
        world.registry.enrol(&token, &fresh_csr(), NOW).expect("enrolled");
    }
    assert_eq!(reason(world.try_token(of("c", "client"))), "TOO_MANY_CLIENTS");
    world.registry.revoke(ClientId(0), NOW).expect("revoked");
    assert!(world.try_token(of("c", "client")).is_ok());
    assert!(world.try_token(request("elsewhere")).is_ok(), "an institution without a name is the client's own");
}

#[test]
fn drained_clients_may_still_call() {
    let world = World::new();
    let (issued, _) = world.enrol("site-1");
    assert_eq!(world.registry.set_drained(ClientId(0)).expect("drained").state, "drained");
    assert!(world.holder(&issued, NOW).is_ok());
    let by_name = ClientRequest { client_id: None, name: "site-1".into() };
    assert_eq!(world.registry.client(&by_name).expect("a client").state, "drained");
}

#[test]
fn when_a_client_was_last_seen_survives_a_restart() {
    let world = World::new();
    let (issued, _) = world.enrol("site-1");
    let seen = |world: &World| {
        let request = ClientRequest { client_id: Some(0), name: String::new() };
        world.registry.client(&request).expect("a client").last_seen_ms
    };
    assert_eq!(seen(&world), 0);
    world.registry.touch(ClientId(0), NOW + 5);
    world.registry.touch(ClientId(77), NOW);
    assert_eq!(seen(&world), NOW.0 + 5);
    let world = world.restarted();
    assert_eq!(seen(&world), NOW.0 + 5);
    assert!(world.holder(&issued, NOW).is_ok());
}

#[test]
fn the_file_holds_no_secret_and_only_its_owner_reads_it() {
    let world = World::new();
    let token = world.token("open");
    let (issued, _) = world.enrol("site-1");
    let path = world.state.path().join("identity.redb");
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let bytes = fs::read(&path).expect("a file");
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"site-1"), "the search finds what is there");
    for secret in [&token, &issued.access_token] {
        // The first twenty digits of the secret, without prefix and checksum.
        let digits = secret.split_once('_').expect("a prefix").1;
        assert!(!holds(&digits.as_bytes()[..20]));
    }
}

#[test]
fn a_second_process_is_told_that_the_register_is_in_use() {
    let world = World::new();
    let second = Registry::open(world.state.path()).expect_err("refused");
    assert!(matches!(second, IdentityError::InUse { .. }), "{second}");
    let empty = tempfile::tempdir().expect("a folder");
    let text = Registry::open(empty.path()).expect_err("refused").to_string();
    assert!(text.contains("pki init"), "{text}");
}

#[test]
fn an_identity_for_this_machine_is_written_once_and_works() {
    let world = World::new();
    let folder = world.state.path().join("pki/operator");
    let operator = world.registry.issue_identity(&folder, "operator", Role::Operator, NOW).expect("issued");
    for file in ["key.pem", "certificate.pem", "ca.pem", "access-token"] {
        let mode = fs::metadata(folder.join(file)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let der = CertificateDer::from_pem_file(folder.join("certificate.pem")).expect("PEM");
    let peer = world.registry.holder_of(&PeerCertificate::new(der).expect("a certificate"), NOW).expect("known");
    assert_eq!((peer.client, peer.role), (operator, Role::Operator));
    let access = fs::read_to_string(folder.join("access-token")).expect("a file");
    assert_eq!(world.registry.bearer_of(&access, NOW).expect("known"), peer);

    let again = world.registry.issue_identity(&folder, "second", Role::Operator, NOW);
    assert_eq!(reason(again), "INTERNAL");
    assert_eq!(world.registry.clients().expect("clients").len(), 1, "nobody is enrolled without files");
}

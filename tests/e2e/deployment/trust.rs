//! Who is let in, from outside: G9's cases with real certificates are tested in the coordinator; here is what a site sees.

use super::site::{Site, fail};

#[test]
fn a_token_works_once_and_a_revoked_client_is_told_so() {
    let site = Site::new();
    let (_coordinator, _) = site.serve();
    site.enrol("first");
    let server = site.server();
    let again = [
        "enroll",
        "--server",
        &server,
        "--token-file",
        "first.token",
        "--identity",
        "stolen",
        "--ca",
        "state/pki/ca.pem",
    ];
    let (_, message) = fail(&site, "fedlora-client", &again);
    assert!(message.contains("used"), "{message}");
    site.operator(&["clients", "revoke", "first"]);
    let (code, message) =
        fail(&site, "fedlora-coordinator", &["status", "--server", &server, "--identity", "identity-first"]);
    assert_eq!(code, Some(7), "{message}");
    assert!(message.contains("revoked"), "{message}");
}

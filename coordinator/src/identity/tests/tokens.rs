//! What enrolment tokens are good for, and for how long.

use super::*;

#[test]
fn a_token_enrols_once_whoever_holds_it_and_whatever_key_comes() {
    let world = World::new();
    let token = world.token("site-1");
    let key = KeyPair::generate().expect("a key");
    world.registry.enrol(&token, &csr(&key), NOW).expect("enrolled");
    assert_eq!(reason(world.registry.enrol(&token, &csr(&key), NOW)), "TOKEN_USED");
    assert_eq!(reason(world.registry.enrol(&token, &fresh_csr(), NOW)), "TOKEN_USED");
    let world = world.restarted();
    assert_eq!(reason(world.registry.enrol(&token, &fresh_csr(), NOW)), "TOKEN_USED");
    assert_eq!(world.registry.clients().expect("clients").len(), 1);
}

#[test]
fn of_many_who_use_a_token_at_the_same_time_one_gets_a_certificate() {
    let world = World::new();
    let token = world.token("site-1");
    let csrs: Vec<_> = (0..8).map(|_| fresh_csr()).collect();
    let won = std::thread::scope(|scope| {
        let (registry, token) = (&world.registry, &token);
        let tries: Vec<_> =
            csrs.iter().map(|csr| scope.spawn(move || registry.enrol(token, csr, NOW).is_ok())).collect();
        tries.into_iter().map(|thread| thread.join().expect("no panic")).filter(|&won| won).count()
    });
    assert_eq!(won, 1);
}

#[test]
fn expired_revoked_mistyped_and_foreign_tokens_are_told_apart() {
    let (world, other) = (World::new(), World::new());
    let (summary, expiring) = world.registry.create_token(request("site-1"), NOW).expect("a token");
    assert_eq!(reason(world.registry.enrol(&expiring, &fresh_csr(), NOW + HOUR)), "TOKEN_EXPIRED");
    assert_eq!(world.registry.revoke_token(&summary.token_id, NOW).expect("revoked").state, "revoked");
    assert_eq!(reason(world.registry.enrol(&expiring, &fresh_csr(), NOW)), "TOKEN_REVOKED");
    let foreign = other.token("site-1");
    assert_eq!(reason(world.registry.enrol(&foreign, &fresh_csr(), NOW)), "TOKEN_UNKNOWN");
    for text in ["", "fl1_", &expiring[..40], &expiring.replace("fl1_", "fla1_")] {
        assert_eq!(reason(world.registry.enrol(text, &fresh_csr(), NOW)), "TOKEN_UNKNOWN", "{text}");
    }
    assert_eq!(reason(world.registry.revoke_token("nobody", NOW)), "TOKEN_ID_UNKNOWN");
}

#[test]
fn a_bad_request_does_not_cost_the_token() {
    let world = World::new();
    let token = world.token("site-1");
    assert_eq!(reason(world.registry.enrol(&token, "not a request", NOW)), "BAD_CSR");
    assert!(world.registry.enrol(&token, &fresh_csr(), NOW).is_ok());
}

#[test]
fn tokens_are_listed_with_their_states_and_without_their_secrets() {
    let world = World::new();
    let used = world.token("used");
    world.registry.enrol(&used, &fresh_csr(), NOW).expect("enrolled");
    world.registry.create_token(request("open"), NOW + 1).expect("a token");
    let short = CreateTokenRequest { ttl_ms: 1, ..request("short") };
    world.registry.create_token(short, NOW + 2).expect("a token");
    let (revoked, _) = world.registry.create_token(request("revoked"), NOW + 3).expect("a token");
    world.registry.revoke_token(&revoked.token_id, NOW + 4).expect("revoked");

    let tokens = world.registry.tokens(NOW + 10).expect("tokens");
    let states: Vec<_> = tokens.iter().map(|token| (token.name.as_str(), token.state.as_str())).collect();
    assert_eq!(states, [("used", "used"), ("open", "open"), ("short", "expired"), ("revoked", "revoked")]);
    assert!(tokens.iter().all(|token| !used.contains(&token.token_id)));
}

#[test]
fn a_name_is_free_again_when_its_token_can_no_longer_be_used() {
    let world = World::new();
    let (first, old) = world.registry.create_token(request("site-1"), NOW).expect("a token");
    assert_eq!(reason(world.try_token(request("site-1"))), "NAME_TAKEN");
    world.registry.revoke_token(&first.token_id, NOW).expect("revoked");
    world.token("site-1");
    let later = world.registry.create_token(request("site-1"), NOW + HOUR).expect("the second one has expired").1;
    let issued = world.registry.enrol(&later, &fresh_csr(), NOW + HOUR).expect("enrolled");
    assert_eq!(issued.client_id, 0);
    assert_eq!(reason(world.try_token(request("site-1"))), "NAME_TAKEN");
    assert_eq!(reason(world.registry.enrol(&old, &fresh_csr(), NOW)), "TOKEN_REVOKED");
}

#[test]
fn requests_for_tokens_out_of_range_are_refused() {
    let world = World::new();
    let refused = |request| reason(world.try_token(request));
    assert_eq!(refused(request("../x")), "BAD_NAME");
    assert_eq!(refused(CreateTokenRequest { institution: "a\u{1b}[2J".into(), ..request("a") }), "BAD_NAME");
    assert_eq!(refused(CreateTokenRequest { role: "root".into(), ..request("a") }), "UNKNOWN_ROLE");
    for ttl_ms in [0, MAX_CLIENT_LIFETIME_MS + 1, u64::MAX] {
        assert_eq!(refused(CreateTokenRequest { ttl_ms, ..request("a") }), "BAD_LIFETIME");
    }
    assert!(world.registry.tokens(NOW).expect("tokens").is_empty());
}

//! Sessions: how they begin, what they carry and how each one ends.

use std::{num::NonZeroU32, sync::Arc};

use fedlora_adapter::{Digest, RoundId};
use fedlora_coordinator::{
    CurrentRun, Push, RunId, RunStatus,
    grpc::{RateLimits, Rounds, Settings},
};
use fedlora_proto::{
    digest_bytes,
    federation::{
        ClientMessage, Decline, Heartbeat, Hello, RoundClosed, RunFinished, client_message::Kind as Up,
        server_message::Kind as Down,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    files::{self, ROUND},
    support::{Session, WIDTH, World, from, hello, id, then_silent, told},
};

async fn welcomed(world: &World, client: u64) -> Session {
    let mut session = world.join(client).await.expect("a session");
    assert!(matches!(session.next().await, Ok(Down::Welcome(_))));
    session
}

/// The status that ends a session, whatever comes before it.
async fn end(session: &mut Session) -> Status {
    loop {
        if let Err(status) = session.next().await {
            return status;
        }
    }
}

/// The status of a session that never begins.
async fn refused(world: &World, client: u64, hello: Hello) -> Status {
    match world.join_as(client, hello).await {
        Ok(mut session) => session.next().await.expect_err("refused"),
        Err(status) => status,
    }
}

#[tokio::test]
async fn a_session_begins_with_the_run_and_the_time() {
    let world = World::new();
    let mut session = world.join(5).await.expect("a session");
    let Down::Welcome(welcome) = session.next().await.expect("welcome") else { panic!("not a welcome") };
    assert_eq!((welcome.client_id, welcome.heartbeat_interval_ms, welcome.server_time_ms), (5, 3000, 42));
    let run = welcome.run.expect("one is live");
    assert_eq!((run.run_id, run.name.as_str(), run.labels.len()), (7, "trial", 2));
    assert_eq!(run.base_model, digest_bytes(files::base_model()));
    let spec = fedlora_adapter::AdapterSpec::try_from(run.spec.expect("set")).expect("valid");
    assert_eq!(spec.digest(), files::spec(WIDTH).digest());
    assert_eq!(world.engine.books().connected, [(id(5), 20)]);
}

#[tokio::test]
async fn heartbeats_are_answered_and_their_progress_is_told() {
    let world = World::new();
    let mut session = welcomed(&world, 1).await;
    for heartbeat in
        [Heartbeat { sequence: 8, round: 0, steps_done: 0 }, Heartbeat { sequence: 9, round: ROUND, steps_done: 4 }]
    {
        session.say(Up::Heartbeat(heartbeat)).await;
        assert_eq!(session.next().await.expect("an answer"), Down::Heartbeat(heartbeat));
    }
    assert_eq!(world.engine.books().progress, [(id(1), RoundId(ROUND), 4)]);
}

#[tokio::test]
async fn what_the_engine_pushes_arrives_in_order() {
    let world = World::new();
    let mut session = welcomed(&world, 1).await;
    let round = files::round(WIDTH, &world.blob);
    let pushes = [
        Push::Task(Arc::new(round)),
        Push::RoundClosed(RunId(7), RoundId(ROUND)),
        Push::RunFinished(RunId(7), RunStatus::Completed),
    ];
    for push in pushes {
        world.engine.push(id(1), push).await;
    }
    let Down::Task(task) = session.next().await.expect("a task") else { panic!("not a task") };
    assert_eq!((task.run_id, task.blob_bytes, task.deadline_ms), (7, world.blob.len() as u64, 1234));
    assert_eq!(task.blob, digest_bytes(Digest::of(&world.blob)));
    assert_eq!(task.plan.expect("set").into_plan("trial").expect("valid"), files::plan(WIDTH));
    let closed = RoundClosed { run_id: 7, round: ROUND };
    assert_eq!(session.next().await.expect("closed"), Down::RoundClosed(closed));
    let finished = RunFinished { run_id: 7, status: "completed".to_owned() };
    assert_eq!(session.next().await.expect("finished"), Down::RunFinished(finished));
}

#[tokio::test]
async fn a_client_that_came_before_the_run_learns_of_it_once() {
    let world = World::idle(WIDTH, Settings::default(), RateLimits::default());
    let mut session = world.join(1).await.expect("a session");
    let Down::Welcome(welcome) = session.next().await.expect("welcome") else { panic!("not a welcome") };
    assert_eq!(welcome.run, None);
    world.open();
    let run = world.engine.run().expect("open");
    for push in [Push::Run(Arc::clone(&run)), Push::Run(run), Push::RoundClosed(RunId(7), RoundId(1))] {
        world.engine.push(id(1), push).await;
    }
    let Down::Run(run) = session.next().await.expect("a run") else { panic!("not a run") };
    assert_eq!(run.run_id, 7);
    assert!(matches!(session.next().await, Ok(Down::RoundClosed(_))), "the same run is not told twice");
}

#[tokio::test]
async fn another_version_is_told_both_versions() {
    let world = World::new();
    let status = refused(&world, 1, Hello { protocol_version: 99, ..hello() }).await;
    assert_eq!(told(&status), (Code::FailedPrecondition, "WRONG_VERSION".to_owned()));
    let words = "the client speaks protocol version 99, this coordinator speaks 1; update the older one";
    assert_eq!(status.message(), words);
    assert_eq!(world.engine.books(), crate::engine::Books::default());
}

#[tokio::test]
async fn another_base_model_is_told_both_digests_and_is_never_counted_in() {
    let world = World::new();
    let other = Digest::of(b"another model");
    let status = refused(&world, 1, Hello { base_model: digest_bytes(other), ..hello() }).await;
    assert_eq!(told(&status), (Code::FailedPrecondition, "WRONG_BASE_MODEL".to_owned()));
    for part in ["\"trial\"", &files::base_model().to_hex(), &other.to_hex()] {
        assert!(status.message().contains(part), "{part} is not in {}", status.message());
    }
    assert_eq!(world.engine.books(), crate::engine::Books::default());
}

#[tokio::test]
async fn a_run_of_another_base_model_ends_the_sessions_that_cannot_train_it() {
    let world = World::idle(WIDTH, Settings::default(), RateLimits::default());
    let mut session = welcomed(&world, 1).await;
    let run = CurrentRun { base_model: Digest::of(b"another model"), ..files::run(WIDTH) };
    world.engine.push(id(1), Push::Run(Arc::new(run))).await;
    assert_eq!(told(&end(&mut session).await), (Code::FailedPrecondition, "WRONG_BASE_MODEL".to_owned()));
    world.engine.until(|books| books.disconnected == [id(1)]).await;
}

#[tokio::test]
async fn a_younger_session_of_the_same_client_ends_the_older_one() {
    let world = World::new();
    let mut older = welcomed(&world, 1).await;
    let mut younger = welcomed(&world, 1).await;
    assert_eq!(told(&end(&mut older).await), (Code::Aborted, "SUPERSEDED".to_owned()));
    let heartbeat = Heartbeat { sequence: 1, round: 0, steps_done: 0 };
    younger.say(Up::Heartbeat(heartbeat)).await;
    assert_eq!(younger.next().await.expect("an answer"), Down::Heartbeat(heartbeat));
    assert!(world.engine.books().disconnected.is_empty(), "the client is still there");
}

#[tokio::test(start_paused = true)]
async fn three_missing_heartbeats_end_a_session() {
    let world = World::new();
    let mut session = welcomed(&world, 1).await;
    let begin = tokio::time::Instant::now();
    assert_eq!(told(&end(&mut session).await), (Code::DeadlineExceeded, "HEARTBEATS_MISSING".to_owned()));
    // Virtual time: three intervals of 3 s to the timer's millisecond, within the 10 s for a dead client.
    let silent = begin.elapsed();
    assert!(silent >= Settings::default().silence() && silent.as_secs() < 10, "{silent:?}");
    world.engine.until(|books| books.disconnected == [id(1)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_without_hello_ends() {
    let world = World::new();
    let silent = world.client().participate(from(1, tokio_stream::pending::<ClientMessage>())).await;
    let status = silent.expect("headers").into_inner().message().await.expect_err("silent");
    assert_eq!(told(&status), (Code::DeadlineExceeded, "SILENT".to_owned()));

    let heartbeat = Up::Heartbeat(Heartbeat { sequence: 1, round: 0, steps_done: 0 });
    for first in [Some(heartbeat), None] {
        let messages = then_silent(vec![ClientMessage { kind: first }]);
        let mut down = world.client().participate(from(1, messages)).await.expect("headers").into_inner();
        let status = down.message().await.expect_err("no Hello");
        assert_eq!(told(&status), (Code::InvalidArgument, "BAD_MESSAGE".to_owned()));
    }
    assert_eq!(world.engine.books(), crate::engine::Books::default());
}

#[tokio::test]
async fn messages_that_make_no_sense_end_a_session() {
    let world = World::new();
    for kind in [Some(Up::Hello(hello())), None] {
        let mut session = welcomed(&world, 1).await;
        session.up.send(ClientMessage { kind }).await.expect("the session lives");
        assert_eq!(told(&end(&mut session).await), (Code::InvalidArgument, "BAD_MESSAGE".to_owned()));
    }
    let status = refused(&world, 1, Hello { base_model: vec![1; 31].into(), ..hello() }).await;
    assert_eq!(told(&status), (Code::InvalidArgument, "BAD_MESSAGE".to_owned()));
}

#[tokio::test]
async fn a_client_that_hangs_up_is_disconnected() {
    let world = World::new();
    let half_closed = welcomed(&world, 1).await;
    drop(half_closed.up);
    world.engine.until(|books| books.disconnected == [id(1)]).await;
    let gone = welcomed(&world, 2).await;
    drop(gone);
    world.engine.until(|books| books.disconnected.contains(&id(2))).await;
}

#[tokio::test]
async fn reasons_for_declining_are_cut_to_what_counts() {
    let world = World::new();
    let session = welcomed(&world, 1).await;
    session.say(Up::Decline(Decline { round: ROUND, reason: "x".repeat(10_000) })).await;
    world.engine.until(|books| books.declined == [(id(1), RoundId(ROUND), "x".repeat(500))]).await;
}

#[tokio::test]
async fn the_reason_for_the_end_is_told() {
    let world = World::new();
    for (reason, expected) in [
        ("draining", (Code::Unavailable, "DRAINING")),
        ("revoked", (Code::PermissionDenied, "REVOKED")),
        ("superseded", (Code::Aborted, "SUPERSEDED")),
    ] {
        let mut session = welcomed(&world, 1).await;
        world.engine.push(id(1), Push::End(reason)).await;
        let (code, told) = told(&end(&mut session).await);
        assert_eq!((code, told.as_str()), expected);
    }
    let mut session = welcomed(&world, 1).await;
    world.engine.stop();
    assert_eq!(told(&end(&mut session).await), (Code::Unavailable, "DRAINING".to_owned()));
}

#[tokio::test]
async fn revocation_ends_the_session_of_this_client_alone() {
    let world = World::new();
    let (mut revoked, mut other) = (welcomed(&world, 1).await, welcomed(&world, 2).await);
    world.engine.revoke(id(1));
    assert_eq!(told(&end(&mut revoked).await), (Code::PermissionDenied, "REVOKED".to_owned()));
    let heartbeat = Heartbeat { sequence: 1, round: 0, steps_done: 0 };
    other.say(Up::Heartbeat(heartbeat)).await;
    assert_eq!(other.next().await.expect("an answer"), Down::Heartbeat(heartbeat));
}

#[tokio::test]
async fn a_flood_of_heartbeats_ends_the_session() {
    let one = NonZeroU32::MIN;
    let limits = RateLimits { client_per_second: one, client_burst: one.saturating_add(2), ..RateLimits::default() };
    let world = World::with(WIDTH, Settings::default(), limits);
    let mut session = welcomed(&world, 1).await;
    let up = session.up.clone();
    let flood = tokio::spawn(async move {
        let kind = Some(Up::Heartbeat(Heartbeat::default()));
        while up.send(ClientMessage { kind: kind.clone() }).await.is_ok() {}
    });
    let status = end(&mut session).await;
    assert_eq!(told(&status), (Code::ResourceExhausted, "RATE_LIMITED".to_owned()));
    assert!(status.metadata().contains_key("retry-after"));
    drop(session);
    flood.await.expect("ends with the session");
}

#[tokio::test]
async fn who_does_not_say_who_it_is_gets_nowhere() {
    let world = World::new();
    let (_up, receiver) = mpsc::channel::<ClientMessage>(1);
    let status = world.client().participate(ReceiverStream::new(receiver)).await.expect_err("nobody");
    assert_eq!(status.code(), Code::Unauthenticated);
}

//! Claims that make no sense, about files that are honest.

use fedlora_adapter::Digest;
use fedlora_proto::{
    digest_bytes,
    federation::{UploadHeader, Verdict},
};
use tonic::Code;

use super::cases::{Case, Expected, SENDER, rejected, status};
use crate::{
    engine::NOT_INVITED,
    files::{self, ROUND, STEPS},
    support::{WIDTH, World, chunks, messages},
};

pub(super) fn cases(world: &World) -> Vec<Case> {
    let file = files::honest(WIDTH, SENDER);
    let case = |name, expected, change: &dyn Fn(&mut UploadHeader)| {
        let mut header = world.header(&file);
        change(&mut header);
        Case { name, client: SENDER, messages: messages(header, chunks(&file, 0, 100)), expected }
    };
    let late = |reason: &str| Expected::Verdict(Verdict::Late, reason.to_owned());
    let bad_message = || status(Code::InvalidArgument, "BAD_MESSAGE");
    let another = || digest_bytes(Digest::of(b"another"));
    let mut cases = vec![
        case("another run", late("UNKNOWN_RUN"), &|header| header.run_id = 8),
        case("no run", late("UNKNOWN_RUN"), &|header| header.run_id = 0),
        case("a round that is over", late("STALE_ROUND"), &|header| header.round = ROUND - 1),
        case("no round", late("STALE_ROUND"), &|header| header.round = 0),
        case("a round to come", late("FUTURE_ROUND"), &|header| header.round = ROUND + 1),
        case("the last of all rounds", late("FUTURE_ROUND"), &|header| header.round = u64::MAX),
        case("another adapter", rejected("WRONG_SPEC"), &|header| header.spec = another()),
        case("another start", rejected("WRONG_BASE"), &|header| header.base = another()),
        case("a size of nothing", rejected("MALFORMED_FILE"), &|header| header.size_bytes = 0),
        case("a size of 2^64-1", rejected("TOO_LARGE"), &|header| header.size_bytes = u64::MAX),
        case("a size of a gigabyte", rejected("TOO_LARGE"), &|header| header.size_bytes = 1 << 30),
        case("no examples", rejected("BAD_META"), &|header| header.examples = 0),
        case("more examples than there can be", rejected("BAD_META"), &|header| header.examples = u64::MAX),
        case("a step too many", rejected("BAD_META"), &|header| header.steps = u64::from(STEPS) + 1),
        case("2^64-1 steps", rejected("BAD_META"), &|header| header.steps = u64::MAX),
        case("a loss of NaN", rejected("BAD_META"), &|header| header.train_loss = Some(f64::NAN)),
        case("a loss of infinity", rejected("BAD_META"), &|header| header.train_loss = Some(f64::INFINITY)),
        case("the digest of another file", rejected("DIGEST_MISMATCH"), &|header| header.blake3 = another()),
        case("a digest of no bytes", bad_message(), &|header| header.blake3 = Vec::new().into()),
        case("a digest of 33 bytes", bad_message(), &|header| header.blake3 = vec![0; 33].into()),
        case("half a specification's digest", bad_message(), &|header| header.spec = vec![0; 16].into()),
        case("half a start's digest", bad_message(), &|header| header.base = vec![0; 16].into()),
    ];
    let not_invited = Expected::Verdict(Verdict::NotInvited, "NOT_INVITED".to_owned());
    let replayed = messages(world.header(&files::honest(WIDTH, 1)), chunks(&files::honest(WIDTH, 1), 0, 100));
    let second = messages(world.header(&file), chunks(&file, 0, 100));
    cases.extend([
        // The first client's update was accepted before.
        Case {
            name: "the accepted update again",
            client: 1,
            messages: replayed,
            expected: Expected::Verdict(Verdict::Duplicate, String::new()),
        },
        Case {
            name: "another update after the accepted one",
            client: 1,
            messages: second.clone(),
            expected: Expected::Verdict(Verdict::Conflict, "ALREADY_SUBMITTED".to_owned()),
        },
        Case { name: "a client that is not invited", client: NOT_INVITED, messages: second, expected: not_invited },
    ]);
    cases
}

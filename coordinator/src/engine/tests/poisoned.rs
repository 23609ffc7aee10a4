//! One client in a hundred sends a value that is no number: it is refused, and the round gives what the others alone give.

use std::sync::Arc;

use fedlora_adapter::{Adapter, AdapterSpec, ClientId, Digest, LoraFactors, RoundId, Side, Tensor};

use super::support::{GRACE_MS, Rig, hand_in, is_accepted};
use crate::{
    Command, ReasonCode, UpdateMeta,
    check::{CheckError, DEFAULT_MAX_FACTOR_DISTANCE, check_update},
};

const CLIENTS: u64 = 100;
const POISONED: u64 = 57;

/// Values that differ between clients and places, near enough to the first adapter for the check.
fn honest(spec: &Arc<AdapterSpec>, client: u64) -> Adapter {
    let value = |index: usize| ((client * 31 + index as u64 * 17) % 101) as f32 / 1010.0;
    let factors = |module| LoraFactors {
        a: Tensor::from_fn(&spec.shape(module, Side::A), value),
        b: Tensor::from_fn(&spec.shape(module, Side::B), value),
    };
    let modules = spec.modules.iter().map(|(name, module)| (name.clone(), factors(module))).collect();
    Adapter::new(Arc::clone(spec), modules, [].into()).expect("made to match")
}

/// The update with its last value replaced by NaN.
fn poisoned(rig: &Rig, update: UpdateMeta) -> UpdateMeta {
    let mut bytes = std::fs::read(rig.blobs.path(update.blob)).expect("written");
    let last = bytes.len() - size_of::<f32>();
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    UpdateMeta { blob: rig.blobs.write(&bytes).expect("writable"), ..update }
}

/// What the check of the service says of an update.
fn verdict(rig: &Rig, update: &UpdateMeta) -> Result<(), CheckError> {
    let (round, global) = (rig.round(), rig.engine.view().global.expect("a live run"));
    check_update(&rig.blobs.path(update.blob), &round.plan, &global, update, DEFAULT_MAX_FACTOR_DISTANCE)
}

/// The adapter that a round of all clients publishes; one of them sends NaN, or nothing and leaves.
fn published(sends_nan: bool) -> Digest {
    let mut rig = Rig::running("num-rounds = 1\nmin-available-clients = 100\nmin-results = 99\ngrace-ms = 50", CLIENTS);
    let spec = Arc::clone(&rig.engine.view().run.expect("a live run").spec);
    for client in 0..CLIENTS {
        let update = hand_in(&rig.blobs, &honest(&spec, client), &rig.round(), client).expect("writable");
        if client != POISONED {
            verdict(&rig, &update).expect("an honest update");
            assert!(is_accepted(&rig.submit_this(update)));
        } else if sends_nan {
            let update = poisoned(&rig, update);
            let Err(CheckError::Rejected(reason)) = verdict(&rig, &update) else { panic!("NaN passed the check") };
            assert_eq!(reason.code, ReasonCode::NotFinite, "{}", reason.detail);
            rig.tell(Command::Refuse(update, reason.code, reason.detail)).expect("kept");
        } else {
            rig.disconnect(client);
        }
    }
    rig.advance(GRACE_MS);
    rig.step();
    let detail = rig.engine.round_detail(None, None).expect("a round");
    let summary = detail.summary.expect("filled in");
    assert_eq!((summary.phase.as_str(), summary.accepted), ("published", CLIENTS - 1));
    assert_eq!(summary.rejected, u64::from(sends_nan));
    let (adapter, _) = rig.engine.export(None, Some(RoundId(1))).expect("published");
    assert!(!detail.clients.iter().any(|one| ClientId(one.client_id) == ClientId(POISONED) && one.state == "accepted"));
    adapter.digest()
}

#[test]
fn a_hundred_clients_of_which_one_sends_nan_make_what_the_other_ninety_nine_make() {
    assert_eq!(published(true), published(false));
}

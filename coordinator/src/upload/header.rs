//! What an upload claims to be, checked before a byte of it is taken in.

use std::sync::Arc;

use fedlora_adapter::{Adapter, AdapterSpec, ClientId, LocalWork, RoundId, RoundPlan, UpdateLayout};
use fedlora_proto::{ProtoError, digest, federation::UploadHeader};

use crate::{CurrentRound, ReasonCode, RunId, UpdateMeta, check::Rejection, grpc::Rounds};

/// Largest count that makes sense: beyond it, weights are no longer exact.
const MAX_COUNT: u64 = 1 << 53;

/// What a valid header is for.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) round: Arc<CurrentRound>,
    pub(crate) global: Arc<Adapter>,
    pub(crate) layout: UpdateLayout,
}

/// The claim of a header.
pub(crate) fn meta(client: ClientId, header: &UploadHeader) -> Result<UpdateMeta, ProtoError> {
    Ok(UpdateMeta {
        client,
        run: RunId(header.run_id),
        round: RoundId(header.round),
        spec: digest("header.spec", &header.spec)?,
        base: digest("header.base", &header.base)?,
        blob: digest("header.blake3", &header.blake3)?,
        size_bytes: header.size_bytes,
        examples: header.examples,
        steps: header.steps,
        train_loss: header.train_loss,
    })
}

/// Checks a claim against the open round.
pub(crate) fn check(rounds: &impl Rounds, meta: &UpdateMeta) -> Result<Target, Rejection> {
    let spec = live_spec(rounds, meta)?;
    let (round, global) = open_round(rounds, meta)?;
    same_digests(&round.plan, meta)?;
    plausible(&round.plan, meta)?;
    let layout = UpdateLayout::new(&spec, round.plan.directive);
    fits(&layout, meta)?;
    Ok(Target { round, global, layout })
}

fn live_spec(rounds: &impl Rounds, meta: &UpdateMeta) -> Result<Arc<AdapterSpec>, Rejection> {
    match rounds.run() {
        Some(run) if run.id == meta.run => Ok(Arc::clone(&run.spec)),
        Some(run) => Err(Rejection::new(ReasonCode::UnknownRun, format!("{} is not live, {} is", meta.run, run.id))),
        None => Err(Rejection::new(ReasonCode::UnknownRun, format!("{} is not live, no run is", meta.run))),
    }
}

fn open_round(rounds: &impl Rounds, meta: &UpdateMeta) -> Result<(Arc<CurrentRound>, Arc<Adapter>), Rejection> {
    let (round, global) = (rounds.round(), rounds.global());
    // A round that closed between the two readings would be checked against another round's adapter.
    let still = rounds.round();
    let same = round.as_ref().zip(still).is_some_and(|(round, still)| Arc::ptr_eq(round, &still) || *round == still);
    let (Some(round), Some(global), true) = (round, global, same) else {
        return Err(Rejection::new(ReasonCode::StaleRound, format!("{} is not open, no round is", meta.round)));
    };
    let open = round.plan.round;
    if meta.round < open {
        return Err(Rejection::new(ReasonCode::StaleRound, format!("{} is over, {open} is open", meta.round)));
    }
    if meta.round > open {
        return Err(Rejection::new(ReasonCode::FutureRound, format!("{} has not begun, {open} is open", meta.round)));
    }
    Ok((round, global))
}

fn same_digests(plan: &RoundPlan, meta: &UpdateMeta) -> Result<(), Rejection> {
    if meta.spec != plan.spec {
        let detail = format!("made for adapter {}, the run's is {}", meta.spec.to_hex(), plan.spec.to_hex());
        return Err(Rejection::new(ReasonCode::WrongSpec, detail));
    }
    if meta.base != plan.base {
        let detail = format!("training started from {}, the round's is {}", meta.base.to_hex(), plan.base.to_hex());
        return Err(Rejection::new(ReasonCode::WrongBase, detail));
    }
    Ok(())
}

/// Numbers that an honest client can have. The steps bound how far its update may go, so they may not be invented.
fn plausible(plan: &RoundPlan, meta: &UpdateMeta) -> Result<(), Rejection> {
    let bad = |detail: String| Err(Rejection::new(ReasonCode::BadMeta, detail));
    if meta.examples == 0 || meta.examples > MAX_COUNT {
        return bad(format!("{} examples", meta.examples));
    }
    let most = match plan.local.work {
        LocalWork::Steps(steps) => u64::from(steps),
        LocalWork::Epochs(epochs) => {
            u64::from(epochs).saturating_mul(meta.examples.div_ceil(plan.local.batch_size.max(1) as u64))
        }
    };
    if meta.steps > most {
        return bad(format!("{} steps, the plan asks for {most}", meta.steps));
    }
    if let Some(loss) = meta.train_loss.filter(|loss| !loss.is_finite()) {
        return bad(format!("a training loss of {loss}"));
    }
    Ok(())
}

fn fits(layout: &UpdateLayout, meta: &UpdateMeta) -> Result<(), Rejection> {
    let size = meta.size_bytes;
    if size > layout.max_bytes() {
        let detail = format!("{size} bytes, an update of this adapter has at most {}", layout.max_bytes());
        return Err(Rejection::new(ReasonCode::TooLarge, detail));
    }
    if size < layout.min_bytes() {
        let detail = format!("{size} bytes, an update of this adapter has at least {}", layout.min_bytes());
        return Err(Rejection::new(ReasonCode::MalformedFile, detail));
    }
    Ok(())
}

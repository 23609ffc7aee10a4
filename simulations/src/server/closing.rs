//! The end of a round: evaluation, books, record and checkpoint.

use fedlora_adapter::{AdapterSpec, AdapterUpdate, Directive, HeadPolicy, RoundId, Side};
use fedlora_coordinator::Tally;

use super::{Server, ServerError};
use crate::{
    clock::Stopwatch,
    metrics::{Evaluations, PhaseSeconds, RoundMetrics},
    record::RecordError,
};

impl Server {
    pub(super) fn checkpoint_last(&mut self, round: RoundId) -> Result<(), RecordError> {
        let Some(recorder) = &mut self.parts.recorder else { return Ok(()) };
        let checkpoint = recorder.checkpoint(round, &self.global, &self.parts.states, round.0)?;
        checkpoint.map_or(Ok(()), |checkpoint| recorder.announce(&checkpoint, &self.parts.states))
    }

    pub(super) fn close(&mut self, round: RoundId, tally: Tally) -> Result<(), ServerError> {
        let watch = Stopwatch::start();
        let evaluations = self.evaluate(round)?;
        let evaluate_s = watch.seconds();
        let directive = self.directive(round);
        let open = std::mem::take(&mut self.open);
        let booked = self.delta().map(|delta| self.accounts.book(open.releases, open.central, delta));
        let privacy = booked.transpose()?.flatten();
        let seconds =
            PhaseSeconds { train: open.train_s, aggregate: open.aggregate_s, evaluate: evaluate_s, save: 0.0 };
        let sent = payload_bytes(self.global.spec(), directive);
        let taken = taken_bytes(self.global.spec(), directive);
        let mut metrics = RoundMetrics {
            round: round.0,
            train_loss: open.train_loss,
            evaluations,
            aggregation_residual: open.residual,
            update_norm: open.update_norm,
            bytes_up: sent * tally.accepted,
            bytes_down: taken * open.invited,
            accepted: tally.accepted,
            rejected: tally.rejected,
            late: tally.late,
            dropped: tally.dropped,
            privacy,
            clients: open.clients,
            duration_s: open.watch.as_ref().map_or(0.0, Stopwatch::seconds),
            seconds,
        };
        if let Some(recorder) = &mut self.parts.recorder {
            let watch = Stopwatch::start();
            let checkpoint = recorder.checkpoint(round, &self.global, &self.parts.states, self.parts.num_rounds)?;
            metrics.seconds.save = watch.seconds();
            metrics.duration_s += metrics.seconds.save;
            // Record before announcement: a run that goes on from a checkpoint must find the records up to it.
            recorder.round(&metrics)?;
            if let Some(checkpoint) = checkpoint {
                recorder.announce(&checkpoint, &self.parts.states)?;
            }
        }
        self.parts.observer.done(&metrics);
        self.parts.rounds.push(metrics);
        Ok(())
    }

    fn evaluate(&self, round: RoundId) -> Result<Evaluations, ServerError> {
        let due = round.0.is_multiple_of(self.parts.evaluate_every) || round.0 == self.parts.num_rounds;
        match &self.parts.evaluator {
            Some(evaluator) if due => {
                let directive = self.directive(round);
                Ok(evaluator.evaluate(round, &self.global, directive, &self.parts.states)?)
            }
            _ => Ok(Evaluations::default()),
        }
    }
}

/// Bytes of values that one client takes from the server under a directive, its kind's constants included.
fn taken_bytes(spec: &AdapterSpec, directive: Directive) -> u64 {
    let sides = [Side::A, Side::B].into_iter().filter(|side| directive.download.contains(*side));
    let factors = spec.modules.values().flat_map(|module| sides.clone().map(|side| spec.shape(module, side)));
    let is_shared = directive.head == HeadPolicy::Shared;
    let head = spec.head.iter().filter(|(name, _)| is_shared || spec.is_constant(name));
    let shapes = factors.chain(head.map(|(_, shape)| shape.clone()));
    shapes.map(|shape| shape.iter().product::<usize>() as u64 * 4).sum()
}

/// Bytes of values that one client sends under a directive.
pub(super) fn payload_bytes(spec: &AdapterSpec, directive: Directive) -> u64 {
    let values: usize =
        AdapterUpdate::expected(spec, directive).values().map(|shape| shape.iter().product::<usize>()).sum();
    values as u64 * 4
}

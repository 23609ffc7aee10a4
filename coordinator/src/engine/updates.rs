//! Verdicts on updates.

use fedlora_adapter::{ClientId, RoundId};
use fedlora_aggregation::Weighting;

use super::{Answer, Engine, EngineError, EventKind, Headline};
use crate::{
    Phase, ReasonCode, Receipt, RoundEvent, RunEffect, RunEvent, RunId, SessionId, StoreError, Timestamp, UpdateMeta,
    Verdict,
    store::{Records, Rejection},
};

/// Bytes of a client's own words that are kept.
const DETAIL_BYTES: usize = 500;

/// Where the round that an update names stands.
enum Place {
    /// It is the open one, or the last.
    Here,
    /// It is over, or belongs to a run that is.
    Past(ReasonCode),
    /// It has not begun.
    Future,
}

impl Engine {
    /// Opens a client's session.
    pub(super) fn connect(&mut self, client: ClientId, examples: u64, now: Timestamp) -> Result<Answer, EngineError> {
        let session = self.sessions.open(client);
        tracing::debug!(client = client.0, session = session.0, examples, "connected");
        self.join(client, now)?;
        Ok(Answer::Session(session))
    }

    /// A session ended; its client may come back.
    pub(super) fn disconnect(&mut self, client: ClientId, session: SessionId, now: Timestamp) {
        if self.sessions.close(client, session) && self.counts(client) {
            self.sessions.await_return(client, now + self.settings.reconnect_grace_ms);
        }
    }

    /// Whether the live run counts on a client.
    fn counts(&self, client: ClientId) -> bool {
        self.live.as_ref().is_some_and(|live| {
            let is_awaited = live.run.round().is_some_and(|round| round.waiting().contains(&client));
            is_awaited || live.run.clients().contains(&client)
        })
    }

    /// A client is gone.
    pub(super) fn leave(&mut self, client: ClientId, why: &str, now: Timestamp) -> Result<(), EngineError> {
        if !self.counts(client) {
            return Ok(());
        }
        let headline = Headline::new(EventKind::ClientLeft).client(client).detail(format!("reason={why}"));
        self.tell(RunEvent::Left(client), headline, now).map(|_| ())
    }

    /// A client will not do its task. It stays in the pool for the next round.
    pub(super) fn decline(
        &mut self,
        client: ClientId,
        session: SessionId,
        round: RoundId,
        reason: &str,
        now: Timestamp,
    ) -> Result<Answer, EngineError> {
        let is_current = self.sessions.is_current(client, session);
        let Some(live) = &mut self.live else { return Ok(Answer::Done) };
        let open = live.run.round().filter(|open| open.id() == round && open.waiting().contains(&client));
        if !is_current || open.is_none() {
            return Ok(Answer::Done);
        }
        live.declined.insert(client);
        let reason: String = reason.chars().take(DETAIL_BYTES).collect();
        let headline = Headline::new(EventKind::ClientDeclined).client(client).detail(format!("reason={reason:?}"));
        self.tell(RunEvent::Round(RoundEvent::Left { client }), headline, now)?;
        Ok(Answer::Done)
    }

    /// A valid update.
    pub(super) fn submit(&mut self, update: &UpdateMeta, now: Timestamp) -> Result<Receipt, EngineError> {
        match self.place(update.run, update.round) {
            Place::Future => Ok(receipt(Verdict::Late, ReasonCode::FutureRound, "this round has not begun")),
            Place::Past(code) => self.submit_to_past(update, code, now),
            Place::Here => self.submit_here(update, now),
        }
    }

    fn place(&self, run: RunId, round: RoundId) -> Place {
        let Some(live) = self.live.as_ref().filter(|live| live.id == run) else {
            return Place::Past(ReasonCode::UnknownRun);
        };
        match live.run.round() {
            Some(open) if open.id() == round => Place::Here,
            _ if round <= live.run.done() => Place::Past(ReasonCode::StaleRound),
            _ => Place::Future,
        }
    }

    /// The open or last round decides, unless the update cannot count at all.
    fn submit_here(&mut self, update: &UpdateMeta, now: Timestamp) -> Result<Receipt, EngineError> {
        if let Some((code, detail)) = self.objection(update) {
            return self.refuse(update, code, detail.to_owned(), now);
        }
        if self.is_missing(update) {
            return Err(EngineError::MissingUpdate { client: update.client, blob: update.blob });
        }
        let was_late = self.was_late(update.client);
        let event = RoundEvent::Submitted { client: update.client, round: update.round, digest: update.blob };
        let headline = |verdict| match verdict {
            Verdict::Accepted => accepted(update),
            Verdict::Late if !was_late => late(update, ReasonCode::StaleRound),
            _ => Headline::none(),
        };
        let row = |records: &mut Records, verdict| match verdict {
            Verdict::Accepted => records.put_update(update),
            _ => Ok(()),
        };
        let receipt = answer(self.judge(event, headline, row, now)?);
        tell_operator(update, &receipt);
        Ok(receipt)
    }

    /// Lets the round judge and records what follows: the headline and the row that the verdict leaves.
    fn judge(
        &mut self,
        event: RoundEvent,
        headline: impl FnOnce(Verdict) -> Headline,
        row: impl FnOnce(&mut Records, Verdict) -> Result<(), StoreError>,
        now: Timestamp,
    ) -> Result<Verdict, EngineError> {
        let Some(live) = &mut self.live else { return Ok(Verdict::Late) };
        let (event, round) = (RunEvent::Round(event), live.round_number());
        let effects = live.run.handle(event, now);
        let reply = effects.iter().find_map(|effect| match effect {
            RunEffect::Reply(_, verdict) => Some(*verdict),
            _ => None,
        });
        let verdict = reply.unwrap_or(Verdict::Late);
        let told = live.record(&mut self.records, round, event, effects, headline(verdict), now);
        let told = self.or_lose(told)?;
        let put = row(&mut self.records, verdict);
        self.or_lose(put)?;
        self.follow(&told)?;
        Ok(verdict)
    }

    fn was_late(&self, client: ClientId) -> bool {
        let round = self.live.as_ref().and_then(|live| live.run.round());
        round.is_some_and(|round| round.late().contains(&client))
    }

    /// Whether the file of an update that would count is not there.
    fn is_missing(&self, update: &UpdateMeta) -> bool {
        let counts = self.live.as_ref().and_then(|live| live.run.round()).is_some_and(|round| {
            let is_first = round.cohort().contains(&update.client) && !round.accepted().contains_key(&update.client);
            is_first && round.phase() == Phase::Collecting
        });
        counts && !self.blobs.contains(update.blob)
    }

    /// Why an update of the open round cannot count, whatever its bytes are.
    fn objection(&self, update: &UpdateMeta) -> Option<(ReasonCode, &'static str)> {
        let live = self.live.as_ref()?;
        let current = live.collecting()?;
        let round = live.run.round()?;
        if !round.cohort().contains(&update.client) || round.accepted().contains_key(&update.client) {
            return None;
        }
        if update.spec != current.plan.spec {
            return Some((ReasonCode::WrongSpec, "made for another adapter specification"));
        }
        if update.base != current.plan.base {
            return Some((ReasonCode::WrongBase, "training started from another global adapter"));
        }
        if live.config.weighting == Weighting::Examples && update.examples == 0 {
            return Some((ReasonCode::BadMeta, "0 examples give no weight"));
        }
        let is_bad = update.train_loss.is_some_and(|loss| !loss.is_finite());
        is_bad.then_some((ReasonCode::BadMeta, "the training loss is not a finite number"))
    }

    /// What was accepted stays accepted, whatever came after it; the rest is late.
    fn submit_to_past(
        &mut self,
        update: &UpdateMeta,
        code: ReasonCode,
        now: Timestamp,
    ) -> Result<Receipt, EngineError> {
        if let Some(first) = self.records.update(update.run, update.round, update.client)? {
            let verdict = if first.blob == update.blob { Verdict::Duplicate } else { Verdict::Conflict };
            return Ok(answer(verdict));
        }
        if code == ReasonCode::UnknownRun {
            return Ok(unknown_run());
        }
        // It counts as late in the round that is open now, as in the simulator, and only once per client.
        let has_round = self.live.as_ref().is_some_and(|live| live.run.round().is_some());
        if has_round && !self.was_late(update.client) {
            let event = RoundEvent::Submitted { client: update.client, round: update.round, digest: update.blob };
            self.tell(RunEvent::Round(event), late(update, code), now)?;
        }
        let receipt = answer(Verdict::Late);
        tell_operator(update, &receipt);
        Ok(receipt)
    }

    /// An invalid update: it never counts, but the operator hears of the first one of a client in a round.
    pub(super) fn refuse(
        &mut self,
        update: &UpdateMeta,
        code: ReasonCode,
        detail: String,
        now: Timestamp,
    ) -> Result<Receipt, EngineError> {
        match self.place(update.run, update.round) {
            Place::Here => {}
            Place::Past(ReasonCode::UnknownRun) => return Ok(unknown_run()),
            Place::Past(_) => return Ok(answer(Verdict::Late)),
            Place::Future => {
                return Ok(receipt(Verdict::Late, ReasonCode::FutureRound, "this round has not begun"));
            }
        }
        let (client, was_late) = (update.client, self.was_late(update.client));
        let round = self.live.as_ref().and_then(|live| live.run.round());
        let is_first =
            round.is_some_and(|round| !round.rejected().contains(&client) && !round.accepted().contains_key(&client));
        let headline = |verdict| match verdict {
            Verdict::Rejected if is_first => rejected(update, code),
            Verdict::Late if !was_late => late(update, ReasonCode::StaleRound),
            _ => Headline::none(),
        };
        let rejection = Rejection { blob: update.blob, reason: code, detail: detail.clone() };
        let row = |records: &mut Records, verdict| match verdict {
            Verdict::Rejected if is_first => records.put_rejection(update, &rejection),
            _ => Ok(()),
        };
        let receipt = match self.judge(RoundEvent::Invalid { client }, headline, row, now)? {
            Verdict::Rejected => Receipt { verdict: Verdict::Rejected, reason: Some(code), detail },
            verdict => answer(verdict),
        };
        tell_operator(update, &receipt);
        Ok(receipt)
    }

    /// What became of an update that was handed in before; `None` if that is not known.
    ///
    /// # Errors
    /// The store fails.
    pub fn receipt(
        &mut self,
        client: ClientId,
        run: RunId,
        round: RoundId,
        blob: fedlora_adapter::Digest,
    ) -> Result<Option<Receipt>, EngineError> {
        if let Some(update) = self.records.update(run, round, client)? {
            let verdict = if update.blob == blob { Verdict::Accepted } else { Verdict::Conflict };
            return Ok(Some(answer(verdict)));
        }
        let rejection = self.records.rejection(run, round, client)?.filter(|rejection| rejection.blob == blob);
        Ok(rejection.map(|rejection| Receipt {
            verdict: Verdict::Rejected,
            reason: Some(rejection.reason),
            detail: rejection.detail,
        }))
    }
}

fn accepted(update: &UpdateMeta) -> Headline {
    let detail = format!(
        "blob={} bytes={} examples={} steps={}",
        update.blob.to_hex(),
        update.size_bytes,
        update.examples,
        update.steps
    );
    Headline::new(EventKind::UpdateAccepted).client(update.client).detail(detail)
}

fn rejected(update: &UpdateMeta, code: ReasonCode) -> Headline {
    let detail = format!("reason={} blob={}", code.as_str(), update.blob.to_hex());
    Headline::new(EventKind::UpdateRejected).client(update.client).detail(detail)
}

fn late(update: &UpdateMeta, code: ReasonCode) -> Headline {
    let detail = format!("reason={} names={}", code.as_str(), update.round.0);
    Headline::new(EventKind::UpdateLate).client(update.client).detail(detail)
}

fn receipt(verdict: Verdict, code: ReasonCode, detail: &str) -> Receipt {
    Receipt { verdict, reason: Some(code), detail: detail.to_owned() }
}

fn unknown_run() -> Receipt {
    receipt(Verdict::Late, ReasonCode::UnknownRun, "no run of this number is live")
}

/// A round's verdict in words.
fn answer(verdict: Verdict) -> Receipt {
    match verdict {
        Verdict::Accepted | Verdict::Duplicate => Receipt { verdict, reason: None, detail: String::new() },
        Verdict::Conflict => {
            receipt(verdict, ReasonCode::AlreadySubmitted, "another update of this client was accepted before")
        }
        Verdict::NotInvited => {
            receipt(verdict, ReasonCode::NotInvited, "this client is not in the cohort of the round")
        }
        Verdict::Late | Verdict::Rejected => receipt(Verdict::Late, ReasonCode::StaleRound, "the round is closed"),
    }
}

fn tell_operator(update: &UpdateMeta, receipt: &Receipt) {
    let reason = receipt.reason.map_or("", ReasonCode::as_str);
    tracing::info!(
        run = update.run.0, round = update.round.0, client = update.client.0, verdict = ?receipt.verdict, reason,
        bytes = update.size_bytes, "update"
    );
}
